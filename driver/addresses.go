package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/portmap"
	"nomad-driver-virt/vm"
)

// reserve chooses an address for each interface. They are reserved, and no other
// machine has those that the job chose, when the function that it returns has returned;
// it is to be called, whatever happens meanwhile, lest a reservation is made after the
// VM was removed.
func (m *machines) reserve(ctx context.Context, interfaces []vm.Interface, addrs []netip.Addr) (wait func() error, err error) {
	var waits []func() error
	wait = func() error {
		var errs []error
		for _, reserved := range waits {
			errs = append(errs, reserved())
		}
		waits = nil
		return errors.Join(errs...)
	}
	for i, n := range interfaces {
		addrs[i] = n.Address.Addr()
		if n.Network != "" {
			addr, reserved, err := m.host.Reserve(ctx, n.Network, n.MAC, n.Address.Addr())
			if err != nil {
				return wait, err
			}
			addrs[i], waits = addr, append(waits, reserved)
		}
		if n.Address.IsValid() && (n.Network != "" || publishesAtChosen(n)) {
			waits = append(waits, m.askForOthers(ctx, indexed("config.network_interface", i)+".bridge.address", n))
		}
	}
	return wait, nil
}

// publishesAtChosen tells whether ports are to lead to an address that the job chose.
func publishesAtChosen(n vm.Interface) bool {
	return n.Address.IsValid() && slices.ContainsFunc(n.Ports, isIPv4)
}

// askForOthers asks whether a machine answers at the address that a job chose, while
// the start goes on: the guest itself does not run yet. Leases do not tell: who
// had one may be gone, and who has an address of his own has none.
func (m *machines) askForOthers(ctx context.Context, path string, n vm.Interface) (wait func() error) {
	asked := make(chan error, 1)
	go func() {
		macs, err := m.lan.WhoHas(ctx, n.Bridge, n.Address.Addr())
		asked <- refuseOthers(path, n, macs, err)
	}()
	return func() error { return <-asked }
}

// refuseOthers is the error where an address that a job chose is another machine's, by
// who answers there. The address is the job's word alone: ports that lead wherever it
// likes would let others into a network by the host's hand.
func refuseOthers(path string, n vm.Interface, macs []string, err error) error {
	addr := n.Address.Addr()
	switch {
	case errors.Is(err, bridge.ErrNotOnBridge) && publishesAtChosen(n):
		return fmt.Errorf("%s: published ports would lead to %s, which the host does not reach over bridge %s without a router: "+
			"give the host an address of that network on the bridge, name the bridge that leads there, or leave ports out", path, addr, n.Bridge)
	case errors.Is(err, bridge.ErrNotOnBridge):
		return nil // nobody can be asked
	case err != nil:
		return fmt.Errorf("%s: %w", path, err)
	case len(macs) > 0:
		return fmt.Errorf("%s: %s is another machine's, which answers there with the hardware address %s: "+
			"take another address, or stop that machine", path, addr, macs[0])
	}
	return nil
}

// publish publishes the ports of a VM, but for those that another task of its
// allocation holds: it gets them when that one ends.
func (m *machines) publish(ctx context.Context, s *vm.Spec, addrs []netip.Addr, tell teller) error {
	all := publications(s, addrs)
	if len(all) == 0 {
		return nil
	}
	_, err := m.publishAll(ctx, s.Name, s.Owner.Alloc, all, tell)
	return err
}

// publishAll has a VM publish nothing else, and returns the labels that others hold.
func (m *machines) publishAll(ctx context.Context, name, alloc string, all []vm.Publication, tell teller) (labels []string, err error) {
	ofSameAlloc := func(name string) bool {
		journal, err := m.journal(ctx, name)
		return err == nil && journal.Owner.Alloc == alloc
	}
	held, err := m.ports.Publish(ctx, name, all, ofSameAlloc)
	for _, h := range held {
		labels = append(labels, h.Label)
	}
	tellHeld(held, tell)
	return labels, err
}

// tellHeld tells of ports that a task has to wait for.
func tellHeld(held []portmap.Held, tell teller) {
	for _, h := range held {
		tell("Port %s is published for VM %s, of another task of the group; this task takes it over when that one ends", h.Label, h.By)
	}
}

// doorsOf are the bridges that ports of loopback addresses lead to.
func doorsOf(interfaces []vm.Interface) (bridges []string) {
	for _, i := range interfaces {
		if slices.ContainsFunc(i.Ports, func(p vm.Port) bool { return p.Host.Addr().IsLoopback() }) {
			bridges = append(bridges, i.Bridge)
		}
	}
	return bridges
}

// publications are what a VM publishes whose interfaces have these addresses.
func publications(s *vm.Spec, addrs []netip.Addr) []vm.Publication {
	var all []vm.Publication
	for i, n := range s.Interfaces {
		all = append(all, publicationsOf(s.Name, n, addrs[i])...)
	}
	return all
}
