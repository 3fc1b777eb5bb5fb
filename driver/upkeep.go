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

const (
	// upkeepEvery is how often it is looked whether VMs have what they had on the
	// host's network, when the kernel tells of no change.
	upkeepEvery = 30 * time.Second
	// upkeepFirst is when it is looked first: a plugin that was killed may have
	// missed something.
	upkeepFirst = 3 * time.Second
	// upkeepAfter is how long after a change: who changes one thing changes more,
	// and others change the network all the time.
	upkeepAfter = time.Second
	// upkeepTimeout bounds one look.
	upkeepTimeout = 20 * time.Second
)

// keepNetworks has VMs stay on their bridges and their ports be published, for as
// long as the driver lives: whoever flushes the host's rules, reloads its firewall
// or restarts a network takes that away.
func (d *Driver) keepNetworks(ctx context.Context, m *machines) {
	changes := d.around.watch(ctx)
	for next := upkeepFirst; ; next = upkeepEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		case <-changes:
			select {
			case <-ctx.Done():
				return
			case <-time.After(upkeepAfter):
			}
		}
		d.upkeep(ctx, m)
	}
}

// upkeep looks once, and puts right what is wrong.
func (d *Driver) upkeep(ctx context.Context, m *machines) {
	ctx, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	tasks := make(map[string]*task) // by VM
	for _, t := range d.onNetwork() {
		tasks[t.vm] = t
		for _, i := range t.learn(ctx, m.host) {
			go d.searchAddress(t, m, i)
		}
		for _, tap := range t.tapsOf() {
			joined, err := d.around.rejoin(tap.Device, tap.Bridge)
			if err != nil {
				d.logger.Warn("a VM is off its bridge", "vm", t.vm, "error", err)
			}
			if joined {
				d.logger.Warn("a VM had been taken off its bridge, and is back on it", "vm", t.vm, "bridge", tap.Bridge)
				d.tell(t.cfg, "The VM had been taken off bridge %s by somebody, and is back on it", tap.Bridge)
			}
		}
	}
	restored, err := m.ports.Restore(ctx, d.wanted, func(name string) bool { return d.isGone(ctx, m, name) })
	if err != nil {
		d.logger.Warn("published ports may not be as they should be; it is tried again", "every", upkeepEvery, "error", err)
	}
	for _, r := range restored {
		switch t, is := tasks[r.VM]; {
		case !is:
			d.logger.Info("the ports of a VM that is gone were withdrawn", "vm", r.VM)
		case t.isFinding():
		case r.TookOver:
			d.tell(t.cfg, "The task's ports are published for it now, which another task of the group held")
		default:
			d.logger.Warn("the rules of published ports had been changed, and were put right", "vm", r.VM)
			d.tell(t.cfg, "Somebody had changed the host's rules for the task's ports: they are published again")
		}
	}
}

// onNetwork lists the tasks whose VMs are to be on the network.
func (d *Driver) onNetwork() []*task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(d.tasks)), func(t *task) bool { return !t.running() || t.isDestroyed() })
}

// wanted lists what is to be published.
func (d *Driver) wanted() []vm.Publication {
	var all []vm.Publication
	for _, t := range d.onNetwork() {
		all = append(all, t.publications()...)
	}
	return all
}

// isGone tells whether there is no VM of a name any more.
func (d *Driver) isGone(ctx context.Context, m *machines, name string) bool {
	if d.knows(name) {
		return false
	}
	_, err := m.host.Running(ctx, name)
	return errors.Is(err, hypervisor.ErrNoDomain)
}

// learn finds out what the VM has on the host's network, if that is not known. It
// returns the interfaces whose addresses are to be found, once.
func (t *task) learn(ctx context.Context, host libvirtHost) []sought {
	t.mu.Lock()
	known, published := t.taps != nil, t.published
	t.mu.Unlock()
	if known {
		return nil
	}
	taps, journal, noted, err := readNetwork(ctx, host, t.vm)
	if err == nil && published == nil {
		published, err = t.publishes(ctx, host, journal, taps)
	}
	if err != nil {
		return nil // libvirt is away, or the VM is: it is tried again
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taps, t.published = append([]vm.Tap{}, taps...), published
	t.noted = noted
	search := toBeFound(journal.Interfaces)
	for _, i := range search {
		t.noteFound(i.Interface, noted[i.MAC])
	}
	return search
}

func readNetwork(ctx context.Context, host libvirtHost, name string) (
	taps []vm.Tap, journal domxml.Journal, noted map[string]netip.Addr, err error,
) {
	if taps, err = host.Taps(ctx, name); err != nil {
		return nil, journal, nil, err
	}
	if journal, err = host.Journal(ctx, name); err != nil {
		return nil, journal, nil, err
	}
	noted, err = host.AddressesNoted(ctx, name)
	return taps, journal, noted, err
}

// publishes is what a task publishes that was started by a plugin before this one,
// by what its domain says, what Nomad keeps of it, and what is reserved.
func (t *task) publishes(ctx context.Context, host libvirtHost, journal domxml.Journal, taps []vm.Tap) ([]vm.Publication, error) {
	facts, err := host.Facts(ctx, "", "")
	if err != nil {
		return nil, err
	}
	var all []vm.Publication
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
			// Its network does not run, for one. What is published is better left alone.
			return nil, fmt.Errorf("the address of VM %s in network %s is not known", t.vm, i.Network)
		}
		all = append(all, publicationsOf(t.vm, i, guest)...)
	}
	tellsBridges := func(i vm.Interface) bool { return i.Bridge != "" }
	if all == nil && !slices.ContainsFunc(journal.Interfaces, tellsBridges) {
		all = publishedBefore(t.cfg, t.vm, t.network, taps)
	}
	return all, nil
}

func (t *task) tapsOf() []vm.Tap {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taps
}

func (t *task) isDestroyed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.destroyed
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
