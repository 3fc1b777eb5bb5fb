package driver

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// The disks of a guest, as its journal tells of them.
var (
	inSmall = vm.Volume{Pool: "small", Name: "vm-1.qcow2", Path: "/srv/small/vm-1.qcow2"}
	inCeph  = vm.Volume{Pool: "ceph", Name: "vm-2"}
	disks   = map[string]vm.Volume{
		"vda": {Pool: "default", Name: "vm-1.qcow2", Path: "/srv/default/vm-1.qcow2"},
		"vdb": inSmall,
		"vdc": inCeph,
	}
)

func left(b vm.Bytes) room { return &b }

// moment is what is seen of a guest at a time, and what is to come of it.
type moment struct {
	at     time.Duration
	guest  hypervisor.Guest // GuestOther: another hand's
	free   room
	wants  string // "tell", "resume", "tell resume", "over" or ""
	failed error  // of the resuming
}

// live has halts see the moments of a guest whose trouble is always the same,
// and returns what came of each.
func live(h *halts, t trouble, moments []moment) []string {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var came []string
	for _, m := range moments {
		came = append(came, fmt.Sprintf("%s: %s", m.at, strings.Join(see(h, t, began.Add(m.at), m), " ")))
	}
	return came
}

// see does what keeper does, without a libvirt.
func see(h *halts, t trouble, now time.Time, m moment) (did []string) {
	switch m.guest {
	case hypervisor.GuestOther:
		h.leave(now)
	case hypervisor.GuestRuns:
		if over, _ := h.runs(now); over {
			did = append(did, "over")
		}
	case hypervisor.GuestHalted:
		if !h.halted {
			h.begin(now, t, m.free)
		}
		if h.mustTell(now) {
			did = append(did, "tell")
		}
		if h.mayGoOn(now, m.free) {
			did = append(did, "resume")
			h.tried(now, m.failed)
		}
	}
	return did
}

func TestGuestGoesOnWhenItsDiskWorksAgain(t *testing.T) {
	const (
		runs, halted, other = hypervisor.GuestRuns, hypervisor.GuestHalted, hypervisor.GuestOther
		s                   = time.Second
		m                   = time.Minute
	)
	var (
		full   = trouble{"vdb", true, inSmall}
		broken = trouble{"vdb", false, inSmall}
		remote = trouble{"vdc", true, inCeph}
		none   = left(0)
		little = left(enoughRoom - 1)
		enough = left(enoughRoom)
		plenty = left(80 * vm.GiB)
	)
	for _, test := range []struct {
		name    string
		trouble trouble
		moments []moment
	}{
		{"one that runs is left alone", full, []moment{{0, runs, nil, "", nil}, {m, runs, nil, "", nil}}},
		{"one that somebody paused is left alone", full, []moment{{0, other, plenty, "", nil}, {9 * m, other, plenty, "", nil}}},
		{"when there is room", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, none, "", nil},
			{2 * m, halted, little, "", nil},
			{3 * m, halted, enough, "resume", nil},
			{3 * m, runs, nil, "", nil},
			{3*m + 3*s, runs, nil, "over", nil},
			{5 * m, runs, nil, "", nil},
		}},
		{"when there was room before it was measured", full, []moment{{0, halted, enough, "tell resume", nil}}},
		{"when libvirt lets it", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, enough, "resume", errors.New("libvirt is away")},
			{6 * s, halted, enough, "resume", nil},
		}},
		{"when it was somebody else who resumed it", full, []moment{
			{0, halted, none, "tell", nil},
			{9 * s, runs, nil, "", nil},
			{12 * s, runs, nil, "over", nil},
		}},
		{"when there is room again and again, of which is told once", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, enough, "resume", nil},
			{3 * s, runs, nil, "", nil},
			{4 * s, halted, none, "", nil},
			{7 * s, halted, enough, "resume", nil},
			{10 * s, runs, nil, "over", nil},
			{11 * s, halted, none, "", nil},
			{14 * s, halted, enough, "resume", nil},
			{17 * s, runs, nil, "", nil},
		}},
		{"and is told of again if it does not for long", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, enough, "resume", nil},
			{6 * s, runs, nil, "over", nil},
			{7 * s, halted, none, "", nil},
			{66 * s, halted, none, "", nil},
			{67 * s, halted, none, "tell", nil},
			{70 * s, halted, none, "", nil},
		}},
		{"and is told of again if it is let go in vain for long", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, enough, "resume", nil},
			{6 * s, runs, nil, "over", nil},
			{10 * s, halted, none, "", nil},
			{40 * s, halted, enough, "resume", nil},
			{40 * s, runs, nil, "", nil},
			{41 * s, halted, none, "", nil},
			{69 * s, halted, none, "", nil},
			{70 * s, halted, none, "tell", nil},
		}},
		{"and is told of at once when it was not let run before", broken, []moment{
			{0, other, plenty, "", nil},
			{1 * s, runs, plenty, "", nil},
			{2 * s, halted, plenty, "tell", nil},
			{12 * s, halted, plenty, "resume", nil},
			{12 * s, halted, plenty, "", nil},
		}},
		{"and is told of again if it did for long", full, []moment{
			{0, halted, none, "tell", nil},
			{3 * s, halted, enough, "resume", nil},
			{6 * s, runs, nil, "over", nil},
			{63 * s, halted, none, "tell", nil},
		}},
		{"ever less often while there seems to be room", full, []moment{
			{0, halted, plenty, "tell resume", nil},
			{0, halted, plenty, "", nil},
			{19 * s, halted, plenty, "", nil},
			{20 * s, halted, plenty, "resume", nil},
			{20 * s, halted, plenty, "", nil},
			{59 * s, halted, plenty, "", nil},
			{60 * s, halted, plenty, "resume", nil},
			{60 * s, halted, plenty, "", nil},
			{119 * s, halted, plenty, "", nil},
			{120 * s, halted, plenty, "resume", nil},
			{120 * s, halted, plenty, "", nil},
			{179 * s, halted, plenty, "", nil},
			{180 * s, halted, plenty, "resume", nil},
		}},
		{"ever less often where room cannot be measured", remote, []moment{
			{0, halted, nil, "tell", nil},
			{9 * s, halted, nil, "", nil},
			{10 * s, halted, nil, "resume", nil},
			{10 * s, halted, nil, "", nil},
			{29 * s, halted, nil, "", nil},
			{30 * s, halted, nil, "resume", nil},
			{89 * s, runs, nil, "", nil},
			{90 * s, runs, nil, "over", nil},
			{100 * s, halted, nil, "tell", nil},
			{110 * s, halted, nil, "resume", nil},
		}},
		{"ever less often after another error, however much room there is", broken, []moment{
			{0, halted, plenty, "tell", nil},
			{9 * s, halted, plenty, "", nil},
			{10 * s, halted, plenty, "resume", nil},
			{40 * s, runs, nil, "", nil}, // the device takes its time
			{41 * s, halted, plenty, "", nil},
			{60 * s, halted, plenty, "", nil},
			{61 * s, halted, plenty, "resume", nil},
			{120 * s, runs, nil, "", nil},
			{121 * s, runs, nil, "over", nil},
		}},
		{"and not when somebody has paused it meanwhile", broken, []moment{
			{0, halted, nil, "tell", nil},
			{9 * s, other, nil, "", nil},
			{9 * m, other, nil, "", nil},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			for _, m := range test.moments {
				want = append(want, fmt.Sprintf("%s: %s", m.at, m.wants))
			}
			if diff := cmp.Diff(want, live(new(halts), test.trouble, test.moments)); diff != "" {
				t.Errorf("what is done at which time (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnotherTroubleIsToldOfToo(t *testing.T) {
	h, now := new(halts), time.Now()
	for i, test := range []struct {
		trouble trouble
		want    bool
	}{
		{trouble{"vdb", true, inSmall}, true},
		{trouble{"vdc", true, inCeph}, true},
		{trouble{"vdc", false, inCeph}, true},
		{trouble{"vdb", true, inSmall}, false},
		{trouble{"vdb", false, inSmall}, false},
	} {
		h.begin(now, test.trouble, nil)
		if got := h.mustTell(now); got != test.want {
			t.Errorf("halt %d, %+v: told of %t, want %t", i, test.trouble, got, test.want)
		}
		h.tried(now, nil)
	}
}

func TestGuestThatRunsIsLookedAtWhenThatIsToBeTold(t *testing.T) {
	h, now := new(halts), time.Now()
	h.begin(now, trouble{"vdb", true, inSmall}, left(0))
	h.mustTell(now)
	if over, again := h.runs(now); over || again != settledAfter {
		t.Errorf("at once it is told %t, and looked at in %s, want not told, and %s", over, again, settledAfter)
	}
	if over, again := h.runs(now.Add(settledAfter)); !over || again != 0 {
		t.Errorf("then it is told %t, and looked at in %s, want told, and never", over, again)
	}
}

func TestDiskThatFailedIsFound(t *testing.T) {
	for _, test := range []struct {
		name   string
		failed hypervisor.DiskError
		want   trouble
	}{
		{"by its path", hypervisor.DiskError{Path: inSmall.Path, Full: true}, trouble{"vdb", true, inSmall}},
		{"by its target", hypervisor.DiskError{Disk: "vdb"}, trouble{"vdb", false, inSmall}},
		{"by its image in Ceph", hypervisor.DiskError{Path: "vm-2", Full: true}, trouble{"vdc", true, inCeph}},
		{"by its pool and image in Ceph", hypervisor.DiskError{Path: "vms/vm-2"}, trouble{"vdc", false, inCeph}},
		{"a device, by its path", hypervisor.DiskError{Path: "/dev/vg/vm-2"}, trouble{disk: "/dev/vg/vm-2"}},
		{"a device, by its target", hypervisor.DiskError{Disk: "vdd", Full: true}, trouble{disk: "vdd", full: true}},
		{"not at all", hypervisor.DiskError{}, trouble{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := troubleOf(test.failed, disks); got != test.want {
				t.Errorf("%+v is taken for %+v, want %+v", test.failed, got, test.want)
			}
		})
	}
}

func TestEventsOfATroubleSayWhatIsToBeDone(t *testing.T) {
	const again = "the guest is paused, and tried again about once a minute until the disk works"
	for _, test := range []struct {
		trouble     trouble
		free        room
		event, over string
	}{
		{
			trouble{"vdb", true, inSmall}, left(0),
			"Disk vdb is full: storage pool small at /srv/small has 0 bytes left; " +
				"the guest is paused and goes on by itself when there is room, 16MiB at least",
			"The guest goes on: storage pool small has 0 bytes left again",
		},
		{
			trouble{"vdb", true, inSmall}, left(80 * vm.MiB),
			"Disk vdb is full, although storage pool small at /srv/small has 80MiB left: a quota may be used up; " + again,
			"The guest goes on: storage pool small has 80MiB left again",
		},
		{
			trouble{"vdc", true, inCeph}, nil,
			"Disk vdc is full: storage pool ceph has no room left; " + again,
			"The guest goes on: disk vdc works again",
		},
		{
			trouble{disk: "vdd", full: true}, nil,
			"Disk vdd is full: its device has no room left; " + again,
			"The guest goes on: disk vdd works again",
		},
		{
			trouble{"vdc", false, inCeph}, nil,
			"Disk vdc has an I/O error in storage pool ceph: the state of the Ceph cluster (ceph -s) may tell why; " + again,
			"The guest goes on: disk vdc works again",
		},
		{
			trouble{"vdb", false, inSmall}, left(0),
			"Disk vdb has an I/O error: the kernel's log and /var/log/libvirt/qemu/vm.log on the host may tell why; " + again,
			"The guest goes on: disk vdb works again",
		},
		{
			trouble{}, nil,
			"A disk has an I/O error: the kernel's log and /var/log/libvirt/qemu/vm.log on the host may tell why; " + again,
			"The guest goes on: its disks work again",
		},
	} {
		if diff := cmp.Diff(test.event, test.trouble.event("vm", test.free)); diff != "" {
			t.Errorf("the event of %+v (-want +got):\n%s", test.trouble, diff)
		}
		if diff := cmp.Diff(test.over, test.trouble.over(test.free)); diff != "" {
			t.Errorf("the event of its end (-want +got):\n%s", diff)
		}
	}
}

func TestRoomIsThatOfThePool(t *testing.T) {
	dir := t.TempDir()
	// Before it is written, or after it was removed, a volume has no file.
	of := trouble{volume: vm.Volume{Pool: "small", Path: filepath.Join(dir, "none.img")}}
	if r := of.room(); r == nil || *r == 0 {
		t.Errorf("the room in %s is not measured", dir)
	}
	for name, v := range map[string]vm.Volume{
		"in Ceph":                         inCeph,
		"of a device":                     {Path: "/dev/null"},
		"of a pool that has no directory": {Pool: "small", Path: filepath.Join(dir, "none", "x.img")},
	} {
		if r := (trouble{volume: v}).room(); r != nil {
			t.Errorf("the room %s is said to be %s, want that it is not known", name, *r)
		}
	}
}

func TestStopOfAHaltedGuestDoesNotAskForMoreTime(t *testing.T) {
	task := new(task)
	if got := task.lateness("1m0s"); !strings.Contains(got, "a longer kill_timeout") {
		t.Errorf("of a guest that does not listen is told %q, want that kill_timeout is too short", got)
	}
	task.note(hypervisor.GuestHalted)
	if got := task.lateness("1m0s"); strings.Contains(got, "longer") || !strings.Contains(got, "paused because of its disk") {
		t.Errorf("of a halted guest is told %q, want that its disk was the cause", got)
	}
}
