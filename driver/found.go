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
func (d *Driver) searchAddress(t *task, m *machines, i sought) {
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
		of:    i.Interface,
		own:   i.own,
		known: i.noted,
		settle: func(addr netip.Addr) {
			if t.settle(i.Interface, addr) && addr.IsValid() {
				d.lookSoon() // its ports may be gone
			}
		},
		move: func(ctx context.Context, addr netip.Addr) ([]string, error) {
			return d.publishAt(ctx, t, m, i.Interface, addr)
		},
		note: func(ctx context.Context, addr netip.Addr) error {
			return d.noteAgain(ctx, t, m, i.Interface, addr)
		},
		tell: d.teller(t.cfg),
	}
	s.run(ctx)
}

// publishAt has the ports of an interface lead to an address that the guest was found
// to have, or nowhere if it is invalid, unless the VM is being removed. It returns
// those that other tasks hold.
//
// Where an address is found, it is noted before ports lead there. Where it is another
// machine's, nothing comes before the ports: they do not wait for libvirt.
func (d *Driver) publishAt(ctx context.Context, t *task, m *machines, i vm.Interface, addr netip.Addr) (held []string, err error) {
	done, err := m.removing.Take(ctx, t.vm)
	if err != nil {
		return nil, err
	}
	defer done()
	if t.isDestroyed() {
		return nil, errGone
	}
	if addr.IsValid() {
		if err := t.noteAt(ctx, m.host, i, addr); err != nil {
			return nil, err
		}
	}
	undo := t.wantAt(i, addr)
	if all := t.publications(); len(all) > 0 {
		held, err = m.publishAll(ctx, t.vm, t.cfg.AllocID, all, d.teller(t.cfg))
	} else {
		err = m.ports.Withdraw(ctx, t.vm)
	}
	if err != nil && !addr.IsValid() {
		return nil, err // they are to lead nowhere all the same: the upkeep may be the first that can do it
	}
	if err != nil {
		undo()
	}
	t.endFinding()
	return held, err
}

// lookSoon has the upkeep look whether all is as it should be.
func (d *Driver) lookSoon() {
	select {
	case d.settled <- struct{}{}:
	default: // it is about to
	}
}

// noteAgain has the VM's note say where the ports of an interface lead, if it does not
// yet.
func (d *Driver) noteAgain(ctx context.Context, t *task, m *machines, i vm.Interface, addr netip.Addr) error {
	done, err := m.removing.Take(ctx, t.vm)
	if err != nil {
		return err
	}
	defer done()
	if t.isDestroyed() {
		return errGone
	}
	return t.noteAt(ctx, m.host, i, addr)
}

// noteAt notes in the VM's domain that an interface has an address, or that none is
// known, for the next plugin. It is for who has the VM's turn.
func (t *task) noteAt(ctx context.Context, host domains, i vm.Interface, addr netip.Addr) error {
	before := t.addressesNoted()
	after := maps.Clone(before)
	if after[i.MAC] = addr; !addr.IsValid() {
		delete(after, i.MAC)
	}
	if maps.Equal(before, after) {
		return nil
	}
	if err := host.NoteAddresses(ctx, t.vm, after); err != nil {
		return err
	}
	t.setNoted(after)
	return nil
}

// sought is an interface whose address is to be found.
type sought struct {
	vm.Interface
	own   []string   // the hardware addresses of the VM's on the same bridge
	noted netip.Addr // where an earlier plugin has found it; invalid: it has not
}

// foundAt is an address that a guest was found to have, and what is published there.
type foundAt struct {
	addr netip.Addr
	at   []vm.Publication
}

func isIPv4(p vm.Port) bool { return p.Host.Addr().Is4() }

// toBeFound lists the interfaces of a VM on bridges whose addresses nobody has given
// them by the driver's doing.
func toBeFound(all []vm.Interface) (search []sought) {
	for _, i := range all {
		if i.Bridge == "" || i.Network != "" || i.Address.IsValid() {
			continue
		}
		f := sought{Interface: i}
		f.Ports = slices.DeleteFunc(slices.Clone(i.Ports), func(p vm.Port) bool { return !isIPv4(p) })
		if i.Address6.IsValid() && len(f.Ports) == 0 {
			continue // what there is to know is known
		}
		for _, other := range all {
			if other.Bridge == i.Bridge {
				f.own = append(f.own, other.MAC)
			}
		}
		search = append(search, f)
	}
	return search
}

// publications are what the VM publishes, as far as it is known.
func (t *task) publications() []vm.Publication {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := slices.Clone(t.published)
	for _, mac := range slices.Sorted(maps.Keys(t.found)) {
		all = append(all, t.found[mac].at...)
	}
	for _, mac := range slices.Sorted(maps.Keys(t.unknown)) {
		all = append(all, asItIs(t.vm, t.unknown[mac])...)
	}
	return all
}

// asItIs is the publication of an interface whose IPv4 address is not known.
func asItIs(name string, i vm.Interface) []vm.Publication {
	p := vm.Publication{VM: name, Bridge: i.Bridge, AsItIs: true}
	for _, port := range i.Ports {
		if isIPv4(port) {
			p.Ports = append(p.Ports, port)
		}
	}
	if len(p.Ports) == 0 {
		return nil
	}
	return []vm.Publication{p}
}

// noteFound is for who holds the lock.
func (t *task) noteFound(i vm.Interface, addr netip.Addr) {
	delete(t.unknown, i.MAC)
	if !addr.IsValid() {
		delete(t.found, i.MAC)
		return
	}
	i.Address6 = netip.Prefix{} // what is published there was known before
	at := publicationsOf(t.vm, i, addr)
	for k := range at {
		at[k].Found = true
	}
	t.found[i.MAC] = foundAt{addr, at}
}

// settle has the ports of an interface be wanted at an address, invalid: nowhere, if
// they were left as they are until now. It tells whether they were.
func (t *task) settle(i vm.Interface, addr netip.Addr) (were bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, were = t.unknown[i.MAC]; were {
		t.noteFound(i, addr)
	}
	return were
}

// addressesNoted are those that the VM's note has, by hardware address.
func (t *task) addressesNoted() map[string]netip.Addr {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[string]netip.Addr)
	maps.Copy(all, t.noted)
	return all
}

func (t *task) setNoted(all map[string]netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.noted = all
}

// wantAt has the ports of an interface be wanted at an address; invalid: nowhere. undo
// has them be wanted where they were.
func (t *task) wantAt(i vm.Interface, addr netip.Addr) (undo func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	found, unknown := t.found[i.MAC], t.unknown[i.MAC]
	t.noteFound(i, addr)
	t.finding = true
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.noteFound(i, found.addr)
		if unknown.MAC != "" {
			t.unknown[i.MAC] = unknown
		}
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
