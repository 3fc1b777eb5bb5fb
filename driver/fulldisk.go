package driver

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"time"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	// enoughRoom is what has to be free in a pool that was full before a guest
	// goes on: with less, it would be halted again at once.
	enoughRoom = 16 * vm.MiB
	// roomEvery is how often it is looked for room.
	roomEvery = 3 * time.Second
	// A guest whose trouble cannot be measured is let go to see whether it is
	// over, after retryFirst, then twice as long each time, up to retryLast.
	retryFirst = 10 * time.Second
	retryLast  = time.Minute
	// calmAfter is how long a guest runs, or does not, until this is worth
	// another event so shortly after the last.
	calmAfter = time.Minute
	// settledAfter is how long a guest runs on a disk that was full before that is
	// told. QEMU repeats at once what had failed, so it is enough.
	settledAfter = roomEvery
)

// keeper has a guest go on that QEMU halted, because a disk of it was full or
// had an error, when that is over. It is one goroutine's.
type keeper struct {
	host domains
	vm   string
	tell func(format string, args ...any)
	past halts

	paused pause
}

// look takes note of what the guest does, does what is to be done about it, and
// returns when it wants to look again; 0: when something has changed.
func (k *keeper) look(ctx context.Context, guest hypervisor.Guest) time.Duration {
	now := time.Now()
	switch guest {
	case hypervisor.GuestHalted:
		k.halted(ctx, now)
		return roomEvery
	case hypervisor.GuestRuns:
		if k.paused.ordered { // by whomever it goes on
			_ = k.host.NotePause(ctx, k.vm, false) // it would be known at the next pause
		}
		if k.paused.over() {
			k.tell("The guest goes on, it is not paused any more")
		}
		goesOn, again := k.past.runs(now)
		if goesOn {
			k.tell("%s", k.past.trouble.over(k.past.trouble.room()))
		}
		return again
	case hypervisor.GuestEnds, hypervisor.GuestSleeps: // by its own will
		k.past.leave(now)
		return 0
	default: // somebody paused it, and will know why
		k.past.leave(now)
		tell, again := k.paused.lasts(now)
		if tell {
			return k.tellPause(ctx)
		}
		return again
	}
}

// tellPause tells that the guest is paused, unless that is Nomad's will, which the
// signal has told. A plugin before this one may have been sent it.
func (k *keeper) tellPause(ctx context.Context) time.Duration {
	ordered, err := k.host.PauseNoted(ctx, k.vm)
	if err != nil { // libvirt is away, or the VM is
		k.paused.told = false
		return pausedFor
	}
	k.paused.told, k.paused.ordered = !ordered, ordered
	if !ordered {
		k.tell("The guest is paused by another hand than Nomad's; virsh resume %s or nomad alloc signal -s SIGCONT has it go on", k.vm)
	}
	return 0
}

func (k *keeper) halted(ctx context.Context, now time.Time) {
	if !k.past.halted {
		t, err := k.find(ctx)
		if err != nil {
			return // libvirt is away, or the VM is
		}
		k.past.begin(now, t, t.room())
	}
	room := k.past.trouble.room()
	if k.past.mustTell(now) {
		k.tell("%s", k.past.trouble.event(k.vm, room))
	}
	if k.past.mayGoOn(now, room) {
		k.past.tried(now, k.host.Resume(ctx, k.vm))
	}
}

// find asks libvirt what halted the guest.
func (k *keeper) find(ctx context.Context) (trouble, error) {
	failed, err := k.host.DiskError(ctx, k.vm)
	if err != nil {
		return trouble{}, err
	}
	journal, err := k.host.Journal(ctx, k.vm)
	if err != nil {
		return trouble{}, err
	}
	return troubleOf(failed, journal.Disks), nil
}

// trouble is what halted a guest.
type trouble struct {
	disk   string    // "vda", the path of a block device, or "" where it is not known
	full   bool      // there was no room for what was written
	volume vm.Volume // that the disk is; without a pool where it is none
}

// troubleOf finds the disk among those that are volumes, which are told by their
// targets.
func troubleOf(failed hypervisor.DiskError, disks map[string]vm.Volume) trouble {
	for target, v := range disks {
		at := v.Path
		if at == "" && !filepath.IsAbs(failed.Path) { // in Ceph
			at = filepath.Join(filepath.Dir(failed.Path), v.Name)
		}
		if target == failed.Disk || failed.Path != "" && failed.Path == at {
			return trouble{target, failed.Full, v}
		}
	}
	return trouble{disk: cmp.Or(failed.Disk, failed.Path), full: failed.Full}
}

// room is what is free where a volume is; nil: that cannot be told.
type room *vm.Bytes

// room measures what is free for the disk. A file system that does not answer
// keeps QEMU waiting as well, and there is nothing else to do for its guest.
func (t trouble) room() room {
	if t.volume.Pool == "" || t.volume.Path == "" {
		return nil
	}
	space, err := hostfile.SpaceAt(filepath.Dir(t.volume.Path))
	if err != nil {
		return nil
	}
	return &space.Free
}

// kind is the same for troubles that one event tells of.
func (t trouble) kind() string {
	if t.full {
		return "full " + t.volume.Pool
	}
	return "error"
}

// event tells that the guest is halted.
func (t trouble) event(vmName string, r room) string {
	const again = "the guest is paused, and tried again about once a minute until the disk works"
	disk := "A disk"
	if t.disk != "" {
		disk = "Disk " + t.disk
	}
	switch pool := t.volume.Pool; {
	case t.full && r != nil && *r >= enoughRoom:
		return fmt.Sprintf("%s is full, although storage pool %s at %s has %s left: a quota may be used up; %s",
			disk, pool, filepath.Dir(t.volume.Path), *r, again)
	case t.full && r != nil:
		return fmt.Sprintf("%s is full: storage pool %s at %s has %s left; the guest is paused and goes on by itself "+
			"when there is room, %s at least", disk, pool, filepath.Dir(t.volume.Path), *r, enoughRoom)
	case t.full && pool != "":
		return fmt.Sprintf("%s is full: storage pool %s has no room left; %s", disk, pool, again)
	case t.full:
		return fmt.Sprintf("%s is full: its device has no room left; %s", disk, again)
	case pool != "" && t.volume.Path == "":
		return fmt.Sprintf("%s has an I/O error in storage pool %s: the state of the Ceph cluster (ceph -s) "+
			"may tell why; %s", disk, pool, again)
	default:
		return fmt.Sprintf("%s has an I/O error: the kernel's log and /var/log/libvirt/qemu/%s.log on the host "+
			"may tell why; %s", disk, vmName, again)
	}
}

// over tells that the guest goes on.
func (t trouble) over(r room) string {
	switch {
	case t.full && r != nil:
		return fmt.Sprintf("The guest goes on: storage pool %s has %s left again", t.volume.Pool, *r)
	case t.disk != "":
		return fmt.Sprintf("The guest goes on: disk %s works again", t.disk)
	default:
		return "The guest goes on: its disks work again"
	}
}

// halts is what is remembered of a guest's halts, and decides what is to be
// done. It does nothing itself: it is told the time, and what is free.
//
// Nomad keeps ten events of a task, and a guest may be halted every second. So
// an event waits until what it tells has lasted, unless the last one is a while
// ago. The last event never tells of what is long over.
type halts struct {
	halted  bool
	since   time.Time // it is halted, or is not
	trouble trouble   // of the last halt
	found   room      // what was free then
	tries   int       // to have it go on, since it last ran for a while
	tryAt   time.Time
	tellAt  time.Time
	wentOn  bool            // was what was told last
	told    map[string]bool // kinds of trouble, since then
}

// begin notes that the guest was halted.
func (h *halts) begin(now time.Time, t trouble, r room) {
	ran := now.Sub(h.since)
	if ran >= calmAfter {
		h.tries = 0
	}
	switch {
	case !h.wentOn || ran >= calmAfter:
		h.tellAt = now
	case ran >= h.lasting():
		h.tellAt = now.Add(calmAfter)
	default: // it was let go in vain, and is halted for as long as before
	}
	h.halted, h.since, h.trouble, h.found = true, now, t, r
	h.tryAt = now.Add(h.patience())
}

// patience is how long to wait before the guest is let go to see whether its
// trouble is over.
func (h *halts) patience() time.Duration {
	if h.trouble.full && h.found != nil && h.tries == 0 {
		return 0 // there may have come room before it was measured
	}
	return min(retryFirst<<min(h.tries, 10), retryLast)
}

// mustTell tells whether it is time to tell that the guest is halted, once.
func (h *halts) mustTell(now time.Time) bool {
	if now.Before(h.tellAt) || h.told[h.trouble.kind()] {
		return false
	}
	if h.told == nil {
		h.told = make(map[string]bool)
	}
	h.told[h.trouble.kind()], h.wentOn = true, false
	return true
}

// mayGoOn tells whether it is time to have the halted guest go on. r is what is
// free now.
func (h *halts) mayGoOn(now time.Time, r room) bool {
	if h.trouble.full && r != nil {
		if *r < enoughRoom {
			return false
		}
		if h.found == nil || *h.found < enoughRoom {
			return true
		}
		// There seemed to be room all the time: a quota, for one, is not seen.
	}
	return !now.Before(h.tryAt)
}

// tried notes that the guest was let go, or the error with which it was not.
func (h *halts) tried(now time.Time, err error) {
	h.tries++
	if err != nil {
		h.tryAt = now.Add(h.patience())
		return
	}
	h.leave(now)
}

// leave notes that the guest is not halted by its disks, whoever did that.
func (h *halts) leave(now time.Time) {
	h.halted, h.since = false, now
}

// runs notes that the guest runs. It tells whether it is time to tell that, or
// when it will be.
func (h *halts) runs(now time.Time) (tell bool, again time.Duration) {
	if h.halted {
		h.leave(now)
	}
	if len(h.told) == 0 {
		return false, 0
	}
	if ran := now.Sub(h.since); ran < h.lasting() {
		return false, h.lasting() - ran
	}
	h.told, h.wentOn = nil, true
	return true, 0
}

// lasting is how long the guest has to run for its trouble to be over.
func (h *halts) lasting() time.Duration {
	if h.trouble.full && h.found != nil {
		return settledAfter
	}
	return calmAfter // some devices take a while to tell of an error
}
