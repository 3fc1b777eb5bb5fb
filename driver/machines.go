package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"nomad-driver-virt/cloudinit"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/turns"
	"nomad-driver-virt/vm"
)

// machines makes and removes VMs: it carries out what a vm.Spec says, in libvirt,
// in pools, in the firewall and on the host's file system.
type machines struct {
	host     libvirtHost
	connect  sync.Once // begins to, when something is asked of the host
	store    *storage.Store
	ports    publisher
	shares   sharer
	consoles consoles
	lan      neighborhood
	runtime  string // a directory of a file system in memory
	release  func(context.Context, vm.Lease) error
	stats    *sampler

	removing turns.Turns // by the VM's name

	mu       sync.Mutex            // guards journals
	journals map[string]remembered // of VMs that run or are being removed, by name

	// again is told of a VM that could not be removed, to try it later.
	again func(name string, end end, tell teller)
	// warn logs what keeps nothing from going on.
	warn func(message string, args ...any)
}

// teller is told of what a user wants to know.
type teller = func(format string, args ...any)

// remembered is the journal of a VM as libvirt had it.
type remembered struct {
	domxml.Journal
	since <-chan struct{} // is closed when libvirt was away since then; nil: that does not matter
}

// wasAway tells whether libvirt was away meanwhile. What it does not know then has
// not ended for that: it may have lost it.
func (r remembered) wasAway() bool {
	select {
	case <-r.since:
		return true
	default:
		return false
	}
}

// end is why a VM is removed.
type end int

const (
	ended     end = iota // its task has ended: disks that are to be kept are kept
	undone               // its start has failed: no guest has written to its disks
	forgotten            // one of the two, when nobody was there to see it
	orphaned             // the same, and no task is there that it belongs to
	lost                 // its task has ended because libvirt does not know it, and nobody has seen it end
)

// step is one thing that is done to make a VM. What names it completes
// "could not …".
type step struct {
	what string
	do   func(context.Context) error
}

// create makes and starts a VM, and returns the address of each of its
// interfaces. The domain is defined first: it is the journal by which remove
// finds all the rest, however far this got. A failure leaves nothing behind.
func (m *machines) create(ctx context.Context, s *vm.Spec, images []*os.File, tell teller) ([]netip.Addr, error) {
	addrs := make([]netip.Addr, len(s.Interfaces))
	steps, sure := m.stepsFor(s, images, addrs, tell)
	for i, step := range steps {
		err := step.do(ctx)
		if err == nil {
			continue
		}
		err = fmt.Errorf("could not %s: %w", step.what, err)
		if i == 0 && !m.isDomainOf(ctx, s) {
			return nil, err // nothing was made
		}
		_ = sure() // what it reserved is released
		// The context may be what failed.
		if undo := m.discard(context.WithoutCancel(ctx), s.Name, undone, tell); undo != nil {
			err = fmt.Errorf("%w (what was made could not be removed yet: %w)", err, undo)
		}
		return nil, err
	}
	return addrs, nil
}

// stepsFor is what is done to make a VM, one after another, and to know its addresses.
// What is done about these beside the steps is over when sure has returned.
func (m *machines) stepsFor(s *vm.Spec, images []*os.File, addrs []netip.Addr, tell teller) (steps []step, sure func() error) {
	wait := func() error { return nil }
	sure = func() error { return wait() }
	steps = []step{
		{"define the VM", func(ctx context.Context) error { return m.host.Define(ctx, s) }},
		{"choose an address", func(ctx context.Context) (err error) {
			wait, err = m.reserve(ctx, s.Interfaces, addrs)
			return err
		}},
	}
	for i, d := range s.Disks {
		steps = append(steps, step{"make disk " + d.Device, func(ctx context.Context) error {
			return m.store.Make(ctx, d, images[i], tell)
		}})
	}
	// Ports lead to an address of the job's choice when it is known that it is no other
	// machine's, and no earlier.
	soon := []step{{"publish ports", func(ctx context.Context) error { return m.publish(ctx, s, addrs, tell) }}}
	var late []step
	if slices.ContainsFunc(s.Interfaces, publishesAtChosen) {
		soon, late = late, soon
	}
	return slices.Concat(steps, []step{
		{"make the cloud-init seed", func(ctx context.Context) error { return m.makeSeed(ctx, s) }},
		{"share the allocation's directories", func(context.Context) error { return m.shares.Attach(s.Shares) }},
		{"make a place for its console's log", func(context.Context) error { return m.consoles.Make(s.Name) }},
	}, soon, []step{
		// libvirt reserves the address meanwhile; the guest runs when it has.
		{"start the VM", func(ctx context.Context) error { return m.host.Start(ctx, s.Name) }},
		{"give it its share of the CPUs", func(ctx context.Context) error { return m.host.SetCPUShares(ctx, s.Name, s.CPUShares) }},
		{"be sure of its address", func(context.Context) error { return sure() }},
	}, late, []step{
		{"let the guest run", func(ctx context.Context) error { return m.host.Resume(ctx, s.Name) }},
	}), sure
}

// isDomainOf tells whether libvirt has the domain of a VM, and not another's of
// the same name. Where libvirt does not answer, it may.
func (m *machines) isDomainOf(ctx context.Context, s *vm.Spec) bool {
	journal, err := m.host.Journal(ctx, s.Name)
	if err != nil {
		return !errors.Is(err, hypervisor.ErrNoDomain)
	}
	return journal.Owner.TaskID == s.Owner.TaskID
}

// discard removes a VM, and if it cannot be removed now, later.
func (m *machines) discard(ctx context.Context, name string, end end, tell teller) error {
	err := m.remove(ctx, name, end, tell)
	if err != nil {
		m.again(name, end, tell)
	}
	return err
}

// remove takes away all of a VM, known by its name alone: running or not, made
// whole or in part. A VM that is not there is no error. What cannot be removed
// keeps the domain, which knows of it, so that it can be tried again.
func (m *machines) remove(ctx context.Context, name string, end end, tell teller) error {
	done, err := m.removing.Take(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	keep(m.ports.Withdraw(ctx, name))

	known, end, err := m.lastKnown(ctx, name, end)
	switch {
	case errors.Is(err, hypervisor.ErrNoDomain):
		return errors.Join(append(errs, m.removeLocal(name), m.disposeByName(ctx, name, end, tell))...)
	case err != nil:
		return errors.Join(append(errs, err)...)
	}
	if doors := doorsOf(known.Interfaces); len(doors) > 0 {
		keep(m.ports.CloseDoors(ctx, doors))
	}
	if err := m.host.Destroy(ctx, name); err != nil {
		return errors.Join(append(errs, err)...) // its disks are in use
	}
	keep(m.removeLocal(name))
	keep(m.freeAddresses(ctx, name, known.Interfaces, end))
	if errors.Join(errs...) == nil {
		known.Interfaces = nil // they may be those of the task's next start when this is tried again
	}
	if end != lost {
		known.since = nil // its QEMU has ended
	}
	m.remember(name, known)
	keep(m.dispose(ctx, known.Journal, end))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.forget(name)
	if end == lost && len(known.Disks) > 0 {
		tellLost(name, tell)
	}
	return m.host.Undefine(ctx, name)
}

// lastKnown is the journal of a VM that is removed for some reason, which is another if
// libvirt has lost the VM: that may run still. A domain that somebody has undefined goes
// with its QEMU, so its journal is remembered.
func (m *machines) lastKnown(ctx context.Context, name string, why end) (remembered, end, error) {
	now, err := m.learn(ctx, name)
	if !errors.Is(err, hypervisor.ErrNoDomain) {
		return now, why, err
	}
	past, is := m.recall(name)
	if !is {
		return past, why, err
	}
	if why != undone && past.wasAway() {
		why = lost
	}
	return past, why, nil
}

// freeAddresses gives back what the interfaces of a VM have in networks of libvirt's.
func (m *machines) freeAddresses(ctx context.Context, name string, interfaces []vm.Interface, end end) error {
	var errs []error
	for _, i := range interfaces {
		if i.Network == "" {
			continue
		}
		if end != lost { // else its guest may run still, with that address
			m.endLeases(ctx, name, i.Network, i.MAC)
		}
		if !i.Reserved {
			errs = append(errs, m.host.Release(ctx, i.Network, i.MAC))
		}
	}
	return errors.Join(errs...)
}

// removeLocal removes what the host itself has for a VM, beside libvirt.
func (m *machines) removeLocal(name string) error {
	return errors.Join(m.shares.Detach(name), m.consoles.Remove(name), os.RemoveAll(m.seedDir(name)))
}

// disposeByName is dispose for a VM of which nothing is known but its name.
func (m *machines) disposeByName(ctx context.Context, name string, end end, tell teller) error {
	if end == undone {
		return m.store.RemoveAllOf(ctx, name)
	}
	kept, err := m.store.KeepAllOf(ctx, name, keepOrphans)
	if kept > 0 {
		tellLost(name, tell)
	}
	return err
}

// tellLost tells that the disks of a VM are kept because nobody knows how it ended.
func tellLost(name string, tell teller) {
	tell("VM %s is unknown to libvirt, and nobody has seen it end: its disks are kept for %.0f hours, as volumes kept-until-…+%s-…; "+
		"end its QEMU if that still runs, pgrep -f guest=%s finds it", name, keepOrphans.Hours(), name, name)
}

// dispose removes the volumes of a VM, but for those that are kept. The seed goes
// when all others have: as long as it is there, a guest may have run.
func (m *machines) dispose(ctx context.Context, j domxml.Journal, end end) error {
	var disks, seeds []vm.Volume
	for _, v := range j.Volumes {
		if strings.HasSuffix(v.Name, seedSuffix) {
			seeds = append(seeds, v)
		} else {
			disks = append(disks, v)
		}
	}
	away := m.store.RetireEach
	switch {
	case end == undone, (end == forgotten || end == orphaned) && !m.anyExists(ctx, seeds):
		away = m.store.RemoveEach
	case end == orphaned, end == lost:
		disks = keptForADay(disks, j.Disks)
	}
	if err := away(ctx, disks); err != nil {
		return err
	}
	return m.store.RemoveEach(ctx, seeds)
}

// anyExists tells whether one of some volumes is there, or may be.
func (m *machines) anyExists(ctx context.Context, volumes []vm.Volume) bool {
	return slices.ContainsFunc(volumes, func(v vm.Volume) bool {
		is, err := m.store.Exists(ctx, v)
		return is || err != nil
	})
}

// keepOrphans is how long the disks of a VM are kept whose task is not known, or
// whose end is not.
const keepOrphans = 24 * time.Hour

// keptForADay has those volumes be kept that are disks.
func keptForADay(volumes []vm.Volume, disks map[string]vm.Volume) []vm.Volume {
	kept := slices.Clone(volumes)
	for i, v := range kept {
		for _, disk := range disks {
			if disk.Pool == v.Pool && disk.Name == v.Name {
				kept[i].Keep = max(v.Keep, keepOrphans)
			}
		}
	}
	return kept
}

// learn reads the journal of a VM and has it be remembered.
func (m *machines) learn(ctx context.Context, name string) (remembered, error) {
	since := m.host.Changed()
	journal, err := m.host.Journal(ctx, name)
	if err != nil {
		return remembered{}, err
	}
	now := remembered{journal, since}
	m.remember(name, now)
	return now, nil
}

// remember keeps the journal of a VM, lest its domain is gone before all the
// rest is.
func (m *machines) remember(name string, journal remembered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.journals[name] = journal
}

func (m *machines) recall(name string) (journal remembered, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	journal, is = m.journals[name]
	return journal, is
}

func (m *machines) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.journals, name)
}

// journal is what the domain of a VM says, or what it said when it was there
// still.
func (m *machines) journal(ctx context.Context, name string) (domxml.Journal, error) {
	journal, err := m.host.Journal(ctx, name)
	if !errors.Is(err, hypervisor.ErrNoDomain) {
		return journal, err
	}
	if past, is := m.recall(name); is {
		return past.Journal, nil
	}
	return journal, err
}

// removeForgotten removes what an earlier start of the same task of the same
// allocation left, when Nomad or this plugin died before it was known to have
// started, or before all of it was removed. A guest of it is shut down before. What
// cannot be read may be another's: removeOrphans tells of it.
func (m *machines) removeForgotten(ctx context.Context, o vm.Owner, tell teller) error {
	names, _, err := m.host.Owned(ctx,
		func(name string) bool { return strings.HasPrefix(name, nameStem(o.Task)) },
		func(of vm.Owner) bool { return of.Alloc == o.Alloc && of.Task == o.Task })
	if err != nil {
		return err
	}
	for _, name := range names {
		tell("VM %s, which an earlier start of this task has left, is removed first; a guest that runs has a minute to shut down", name)
		err := m.shutDown(ctx, name)
		if err == nil {
			err = m.remove(ctx, name, forgotten, tell)
		}
		if err != nil {
			return fmt.Errorf("removing VM %s, which an earlier start of this task left: %w", name, err)
		}
	}
	return nil
}

// seedDir is where the seed of a VM is laid out while it is made. No VM is called
// like that: their names end in hex digits.
func (m *machines) seedDir(name string) string { return filepath.Join(m.runtime, name+".seed") }

// makeSeed writes what cloud-init is told into the VM's seed volume.
func (m *machines) makeSeed(ctx context.Context, s *vm.Spec) error {
	documents, err := cloudinit.Documents(s.Seed)
	if err != nil {
		return err
	}
	dir := m.seedDir(s.Name)
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil { // as package share does, whoever comes first
		return err
	}
	iso, err := cloudinit.ISO(dir, documents)
	if err != nil {
		return err
	}
	return m.store.MakeFrom(ctx, s.SeedVolume, iso)
}
