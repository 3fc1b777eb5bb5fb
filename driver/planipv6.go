package driver

import (
	"net"
	"net/netip"
	"slices"

	"nomad-driver-virt/vm"
)

// planIPv6 gives an interface an address in the IPv6 range of its bridge's libvirt
// network, if that has one, and publishes its ports on IPv6, too.
func planIPv6(r request, path string, i *vm.Interface, p *problems) {
	switch at := networkOf(r.facts.Networks, i.Bridge); {
	case at < 0 || slices.Contains(filtersOutIPv6, r.config.NWFilter):
	default:
		n := r.facts.Networks[at]
		i.Address6, i.Gateway6 = addressOf(i.MAC, n.Gateway6)
		if !n.LeadsOut {
			i.Gateway6 = netip.Addr{}
		}
	}
	for _, port := range i.Ports {
		switch {
		case !port.Host.Addr().Is6() || i.Address6.IsValid():
		case slices.Contains(filtersOutIPv6, r.config.NWFilter):
			p.addf(path+".ports", "Nomad gave port %q the IPv6 address %s, and this client lets no IPv6 through to VMs (nwfilter = %q): "+
				"take a host_network of IPv4", port.Label, port.Host.Addr(), r.config.NWFilter)
		default:
			p.addf(path+".ports", "Nomad gave port %q the IPv6 address %s, and the guest has none on bridge %q: "+
				"a libvirt network of it needs an <ip family='ipv6'> with a prefix of 64 or less", port.Label, port.Host.Addr(), i.Bridge)
		}
	}
	if i.Address6.IsValid() {
		i.Ports = append(i.Ports, portsBeside(r, i.Ports)...)
	}
}

// filtersOutIPv6 are the network filters which come with libvirt that let none through.
var filtersOutIPv6 = []string{"clean-traffic", "clean-traffic-gateway"}

// oneWayOut leaves the first interface with a way out its own: of two, none is better
// than the other, and a guest would take either.
func oneWayOut(all []vm.Interface) {
	taken := false
	for i := range all {
		if taken {
			all[i].Gateway6 = netip.Addr{}
		}
		taken = taken || all[i].Gateway6.IsValid()
	}
}

// interfaceBits is how long the part of an IPv6 address is that an interface decides.
const interfaceBits = 64

// addressOf is the IPv6 address of a hardware address in a network, and the way out of it:
// the one that the guest would give itself by the router's advertisements (RFC 4291,
// appendix A). No other has it, because none has the hardware address; so nobody has
// to remember it. Networks that leave no room for it have none.
func addressOf(mac string, gateway netip.Prefix) (netip.Prefix, netip.Addr) {
	hardware, err := net.ParseMAC(mac)
	if err != nil || len(hardware) != 6 || !gateway.IsValid() || gateway.Bits() > 128-interfaceBits {
		return netip.Prefix{}, netip.Addr{}
	}
	const isLocal = 2 // in the first byte, inverted
	addr := gateway.Addr().As16()
	copy(addr[8:], []byte{hardware[0] ^ isLocal, hardware[1], hardware[2], 0xff, 0xfe, hardware[3], hardware[4], hardware[5]})
	return netip.PrefixFrom(netip.AddrFrom16(addr), gateway.Bits()), gateway.Addr()
}

// portsBeside are those of the IPv6 addresses that the host has beside the IPv4
// addresses which Nomad chose, on the same network device.
func portsBeside(r request, chosen []vm.Port) (all []vm.Port) {
	for _, port := range chosen {
		for _, l := range r.links {
			if !slices.Contains(l.Addrs, port.Host.Addr()) || port.Host.Addr().Is6() {
				continue
			}
			for _, addr := range l.Addrs {
				if addr.Is6() && reachesNoFurther(addr, port.Host.Addr()) {
					beside := port
					beside.Host, beside.Beside = netip.AddrPortFrom(addr, port.Host.Port()), true
					all = append(all, beside)
				}
			}
		}
	}
	return all
}

// reachesNoFurther tells whether an IPv6 address is known to no more of the world than
// an IPv4 address: who chose a private network for a port has not asked for the
// internet.
func reachesNoFurther(ipv6, ipv4 netip.Addr) bool { return ipv6.IsPrivate() || isOfTheWorld(ipv4) }

// sharedByCarriers are the addresses behind a provider's NAT (RFC 6598), which overlay
// networks use as well.
var sharedByCarriers = netip.MustParsePrefix("100.64.0.0/10")

// isOfTheWorld tells whether an IPv4 address is none of a private network, or of a link.
func isOfTheWorld(ipv4 netip.Addr) bool {
	return !ipv4.IsPrivate() && !ipv4.IsLinkLocalUnicast() && !ipv4.IsLoopback() && !sharedByCarriers.Contains(ipv4)
}

// publicationsOf are what a VM publishes from an interface with this IPv4 address: one
// for each version of IP.
func publicationsOf(name string, i vm.Interface, ipv4 netip.Addr) (all []vm.Publication) {
	for _, guest := range []netip.Addr{ipv4, i.Address6.Addr()} {
		p := vm.Publication{VM: name, Bridge: i.Bridge, Guest: guest, Isolated: i.Isolated}
		for _, port := range i.Ports {
			if guest.IsValid() && port.Host.Addr().Is4() == guest.Is4() {
				p.Ports = append(p.Ports, port)
			}
		}
		if len(p.Ports) > 0 {
			all = append(all, p)
		}
	}
	return all
}
