package portmap

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"nomad-driver-virt/vm"
)

// split divides what a VM is to publish into what it can, and the labels of what
// is left to others who may hold it. isTaken tells of an address and port that no
// other VM has whether it is somebody's all the same: what is beside a chosen
// address is left to everybody.
func (p published) split(name string, own published, mayHold func(string) bool, isTaken func(netip.AddrPort) bool) (free published, held []Held) {
	left := p.heldByOthers(name, own.chosen(), mayHold)
	free = own.with(left, nil)
	for _, k := range left.ports() {
		if h := (Held{own[k].Label, p[k].VM}); !slices.Contains(held, h) {
			held = append(held, h)
		}
	}
	for _, host := range own.besides() {
		both := both(host)
		if own.isBesideOneOf(left, both[0]) || p.isOfAnother(name, host) || isTaken(host) {
			delete(free, both[0])
			delete(free, both[1])
		}
	}
	return free, held
}

// heldByOthers returns those of a VM's chosen ports that others hold who may.
func (p published) heldByOthers(name string, chosen published, mayHold func(string) bool) published {
	left := published{}
	for k, t := range chosen {
		if holder, is := p[k]; is && holder.VM != name && !holder.Beside && mayHold(holder.VM) {
			left[k] = t
		}
	}
	return left
}

// besides returns where there are ports beside chosen ones, in order. TCP and UDP are
// one: who asks for the port by the one protocol, often goes on by the other.
func (p published) besides() []netip.AddrPort {
	hosts := map[netip.AddrPort]bool{}
	for k, t := range p {
		if t.Beside {
			hosts[k.Host] = true
		}
	}
	return slices.SortedFunc(maps.Keys(hosts), netip.AddrPort.Compare)
}

// isBesideOneOf tells whether a port of the VM's is beside one of its chosen ones: has
// the same number and label, of which the comment of a port beside holds less.
func (p published) isBesideOneOf(chosen published, k port) bool {
	for c, t := range chosen {
		if c.Host.Port() == k.Host.Port() && strings.HasPrefix(t.Label, p[k].Label) {
			return true
		}
	}
	return false
}

// isOfAnother tells whether a VM other than the named one has the port by one of the
// protocols.
func (p published) isOfAnother(name string, host netip.AddrPort) bool {
	for _, k := range both(host) {
		if holder, is := p[k]; is && holder.VM != name {
			return true
		}
	}
	return false
}

// conflict is the error when a VM other than the named one holds a port of own.
func (p published) conflict(name string, own published) error {
	for _, k := range own.ports() {
		if holder, ok := p[k]; ok && holder.VM != name && !holder.Beside {
			return fmt.Errorf("%s (label %q) is published for VM %q (label %q): use another port, or stop that VM first",
				k.Host, own[k].Label, holder.VM, holder.Label)
		}
	}
	return nil
}

// place is an address of a guest. Bridges may have the same networks.
type place struct {
	Bridge string
	Addr   netip.Addr
}

// placesGiven returns where guests are that were not found there, but given the address.
func placesGiven(all []vm.Publication) (given []place) {
	for _, p := range all {
		if len(p.Ports) > 0 && !p.Found && !p.AsItIs {
			given = append(given, place{p.Bridge, p.Guest.Unmap()})
		}
	}
	return given
}

// crowded is the error when ports of a VM other than the named one lead to a place that
// this one is given, and has no ports at yet. ARP does not tell of that VM while it does
// not answer, because it boots, for one.
func (p published) crowded(name string, given []place) error {
	for _, at := range given {
		here := maps.Clone(p)
		maps.DeleteFunc(here, func(_ port, t target) bool { return place{t.Bridge, t.Guest.Addr()} != at })
		if len(here) == 0 || len(here.of(name)) > 0 {
			continue
		}
		k := here.ports()[0]
		return fmt.Errorf("the guest's address %s on bridge %q is where %s leads, which is published for VM %q (label %q): "+
			"give each VM an address of its own, or stop that VM first", at.Addr, at.Bridge, k.Host, here[k].VM, here[k].Label)
	}
	return nil
}

// served is the error when a process of the host has a chosen port that no VM has: the
// process would be cut off by it. isServed is asked of no others.
func (p published) served(own published, isServed func(port) bool) error {
	for _, k := range own.ports() {
		holder, is := p[k]
		if own[k].Beside || is && !holder.Beside || !isServed(k) {
			continue
		}
		return fmt.Errorf("%s (label %q) is in use by a process of this host: choose another port, "+
			"or keep it from jobs by reserved_ports in the client's configuration", k.Host, own[k].Label)
	}
	return nil
}

// evicted returns the ports of other VMs that give way to a VM's.
func (p published) evicted(name string, own published) published {
	gone := published{}
	for k := range own {
		if holder, is := p[k]; is && holder.VM != name && holder.Beside {
			gone[k] = holder
		}
	}
	return gone
}
