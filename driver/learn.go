package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// learn finds out what the VM has on the host's network, as far as that is not known.
// It returns the interfaces whose addresses are to be found, once. An error tells of
// what it could not find out, and asks for again the next time: all else is known, and
// what is published of that stays as it is.
func (t *task) learn(ctx context.Context, host libvirtHost) ([]sought, error) {
	if t.isLearned() {
		return nil, nil
	}
	taps, err := host.Taps(ctx, t.vm)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.taps = append([]vm.Tap{}, taps...)
	t.mu.Unlock()
	journal, err := host.Journal(ctx, t.vm)
	if err != nil {
		return nil, err
	}
	err = t.learnPorts(ctx, host, journal, taps)
	search, noNote := t.learnFound(ctx, host, journal)
	return search, errors.Join(err, noNote)
}

// isLearned tells whether nothing more is to be asked of libvirt.
func (t *task) isLearned() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taps != nil && t.arePortsLearned() && t.searches
}

// arePortsLearned is for who holds the lock.
func (t *task) arePortsLearned() bool {
	for _, i := range t.unknown {
		if i.Network != "" {
			return false
		}
	}
	return t.published != nil
}

// learnPorts finds out what the VM publishes at addresses that it was given.
func (t *task) learnPorts(ctx context.Context, host libvirtHost, journal domxml.Journal, taps []vm.Tap) error {
	t.mu.Lock()
	learned := t.arePortsLearned()
	t.mu.Unlock()
	if learned {
		return nil
	}
	published, unknown, err := t.publishes(ctx, host, journal, taps)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published = append([]vm.Publication{}, published...)
	maps.DeleteFunc(t.unknown, func(_ string, i vm.Interface) bool { return i.Network != "" })
	for _, i := range unknown {
		t.unknown[i.MAC] = i
	}
	return err
}

// learnFound finds out where an earlier plugin has found the guest, if one has. Where
// that is noted is where the ports may lead now: they are left as they are until it was
// looked who is there.
func (t *task) learnFound(ctx context.Context, host domains, journal domxml.Journal) (search []sought, err error) {
	t.mu.Lock()
	searches := t.searches
	t.mu.Unlock()
	if searches {
		return nil, nil
	}
	var noted map[string]netip.Addr
	if search = toBeFound(journal.Interfaces); len(search) > 0 {
		noted, err = host.AddressesNoted(ctx, t.vm)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, i := range search {
		t.unknown[i.MAC] = i.Interface
		search[k].noted = noted[i.MAC]
	}
	if err != nil && !errors.Is(err, hypervisor.ErrBadNote) {
		return nil, err
	}
	t.noted, t.searches = noted, true // what cannot be read is found out anew
	return search, err
}

// isNews tells whether an error is to be told.
func (t *task) isNews(err error) bool {
	if errors.Is(err, hypervisor.ErrNoDomain) { // it has just ended
		err = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unlearned.is(err, time.Now())
}

// publishes is what a task publishes that was started by a plugin before this one,
// by what its domain says, what Nomad keeps of it, and what is reserved. Of some
// interfaces it may not be known where their ports lead, which the error explains.
func (t *task) publishes(ctx context.Context, host libvirtHost, journal domxml.Journal, taps []vm.Tap) (
	all []vm.Publication, unknown []vm.Interface, err error,
) {
	facts, noFacts := host.Facts(ctx, "", "")
	var errs []error
	isFirst := true
	for _, i := range journal.Interfaces {
		guest := i.Address.Addr()
		if !guest.IsValid() && isFirst && t.network != nil {
			guest, _ = netip.ParseAddr(t.network.IP) // Nomad is told of the first bridge's
		}
		if !guest.IsValid() {
			guest = reservedFor(facts.Networks, i)
		}
		isFirst = isFirst && i.Bridge == ""
		if !guest.IsValid() && i.Network != "" && slices.ContainsFunc(i.Ports, isIPv4) {
			unknown = append(unknown, i)
			errs = append(errs, addressUnknown(t.vm, i.Network, noFacts))
		}
		all = append(all, publicationsOf(t.vm, i, guest)...)
	}
	tellsBridges := func(i vm.Interface) bool { return i.Bridge != "" }
	if all == nil && !slices.ContainsFunc(journal.Interfaces, tellsBridges) {
		all = publishedBefore(t.cfg, t.vm, t.network, taps)
	}
	return all, unknown, errors.Join(errs...)
}

// addressUnknown says why: there is no reservation, or it could not be looked for.
func addressUnknown(name, network string, because error) error {
	if because != nil {
		return fmt.Errorf("the address of VM %s in network %s is not known: %w", name, network, because)
	}
	return fmt.Errorf("the address of VM %s in network %s is not known, since none is reserved there", name, network)
}

// publishedBefore is what a task publishes whose domain does not say that, because
// an earlier version made it, by what Nomad keeps of it and what libvirt tells.
func publishedBefore(cfg *drivers.TaskConfig, name string, network *drivers.DriverNetwork, taps []vm.Tap) []vm.Publication {
	if network == nil || len(taps) == 0 || cfg.Resources == nil || cfg.Resources.Ports == nil {
		return nil
	}
	guest, err := netip.ParseAddr(network.IP)
	if err != nil {
		return nil
	}
	p := vm.Publication{VM: name, Bridge: taps[0].Bridge, Guest: guest}
	for _, allocated := range *cfg.Resources.Ports {
		port, is := network.PortMap[allocated.Label]
		host, err := netip.ParseAddr(allocated.HostIP)
		if !is || err != nil {
			continue
		}
		p.Ports = append(p.Ports, vm.Port{
			Label: allocated.Label,
			Host:  netip.AddrPortFrom(host, uint16(allocated.Value)),
			Guest: uint16(port),
		})
	}
	if len(p.Ports) == 0 {
		return nil
	}
	return []vm.Publication{p}
}
