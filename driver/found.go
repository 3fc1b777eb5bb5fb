package driver

import (
	"context"
	"maps"
	"net/netip"
	"slices"

	"nomad-driver-virt/vm"
)

// searchAddress looks for the address of one of a VM's interfaces, and publishes its
// ports there, for as long as the VM runs.
func (d *Driver) searchAddress(t *task, m *machines, i vm.Interface) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-t.ended:
		case <-ctx.Done():
		}
	}()
	s := search{
		agent: m.host.AgentAddresses,
		lan:   d.around.lan,
		vm:    t.vm,
		of:    i,
		found: func(ctx context.Context, addr netip.Addr) error { return d.publishAt(ctx, t, m, i, addr) },
		tell:  d.teller(t.cfg),
	}
	s.run(ctx, t.addressFound(i))
}

// publishAt publishes the ports of an interface at an address that the guest was
// found to have, unless the VM is being removed.
func (d *Driver) publishAt(ctx context.Context, t *task, m *machines, i vm.Interface, addr netip.Addr) error {
	done, err := m.removing.Take(ctx, t.vm)
	if err != nil {
		return err
	}
	defer done()
	if t.isDestroyed() {
		return context.Canceled
	}
	undo := t.wantAt(i, addr)
	defer t.endFinding()
	err = m.host.NoteAddresses(ctx, t.vm, t.addressesFound())
	if err == nil {
		err = m.publishAll(ctx, t.vm, t.cfg.AllocID, t.publications(), d.teller(t.cfg))
	}
	if err != nil {
		undo()
	}
	return err
}

// publications are what the VM publishes, as far as it is known.
func (t *task) publications() []vm.Publication {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(t.published)
	for _, mac := range slices.Sorted(maps.Keys(t.found)) {
		if p := t.found[mac]; len(p.Ports) > 0 {
			all = append(all, p)
		}
	}
	return all
}

// noteFound is for who holds the lock.
func (t *task) noteFound(i vm.Interface, addr netip.Addr) {
	if t.found == nil {
		t.found = make(map[string]vm.Publication)
	}
	t.found[i.MAC] = vm.Publication{VM: t.vm, Bridge: i.Bridge, Guest: addr, Ports: i.Ports}
}

// addressFound is the address that an interface was found to have; invalid: none.
func (t *task) addressFound(i vm.Interface) netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.found[i.MAC].Guest
}

// addressesFound are all that were found, by hardware address.
func (t *task) addressesFound() map[string]netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]netip.Addr)
	for mac, p := range t.found {
		all[mac] = p.Guest
	}
	return all
}

// wantAt has the ports of an interface be wanted at an address. undo has them be
// wanted where they were.
func (t *task) wantAt(i vm.Interface, addr netip.Addr) (undo func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := maps.Clone(t.found)
	t.noteFound(i, addr)
	t.finding = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.found = before
	}
}

func (t *task) endFinding() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.finding = false
}

func (t *task) isFinding() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finding
}
