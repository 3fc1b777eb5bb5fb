package domxml

import (
	"fmt"
	"net/netip"

	"libvirt.org/go/libvirtxml"
)

// Network is what the driver needs to know of a libvirt network.
type Network struct {
	Name   string
	Bridge string
	// Gateway is the host's IPv4 address on the bridge, with the network's
	// prefix length: where DHCP is served, if it has several; invalid when it
	// has none.
	Gateway netip.Prefix
	// Others are its further IPv4 addresses there.
	Others []netip.Prefix
	// Gateway6 is the host's first global IPv6 address on the bridge, with the network's
	// prefix length; invalid when it has none.
	Gateway6 netip.Prefix
	LeadsOut bool           // it is not isolated
	Ranges   []AddressRange // of IPv4 addresses that DHCP gives out
	Hosts    []DHCPHost     // IPv4 addresses that are reserved
}

// AddressRange is a range of addresses, both ends included.
type AddressRange struct{ First, Last netip.Addr }

// DHCPHost is a reservation: the address that a hardware address is given.
type DHCPHost struct {
	MAC  string
	Addr netip.Addr
}

// ParseNetwork reads a libvirt network's XML.
//
// Format: https://libvirt.org/formatnetwork.html
func ParseNetwork(document string) (Network, error) {
	var x libvirtxml.Network
	if err := x.Unmarshal(document); err != nil {
		return Network{}, fmt.Errorf("network XML: %w", err)
	}
	n := Network{Name: x.Name, LeadsOut: x.Forward != nil}
	if x.Bridge != nil {
		n.Bridge = x.Bridge.Name
	}
	for _, ip := range x.IPs {
		if ip.Family == "ipv6" {
			if gateway, ok := gatewayOf(ip); ok && gateway.Addr().IsGlobalUnicast() && !n.Gateway6.IsValid() {
				n.Gateway6 = gateway
			}
			continue
		}
		if gateway, ok := gatewayOf(ip); ok {
			n.addGateway(gateway, ip.DHCP != nil)
		}
		if ip.DHCP == nil {
			continue
		}
		for _, r := range ip.DHCP.Ranges {
			first, err1 := netip.ParseAddr(r.Start)
			last, err2 := netip.ParseAddr(r.End)
			if err1 == nil && err2 == nil {
				n.Ranges = append(n.Ranges, AddressRange{first, last})
			}
		}
		for _, h := range ip.DHCP.Hosts {
			if addr, err := netip.ParseAddr(h.IP); err == nil {
				n.Hosts = append(n.Hosts, DHCPHost{MAC: h.MAC, Addr: addr})
			}
		}
	}
	return n, nil
}

// addGateway notes an address of the host's: as the gateway if it is the first one, or
// DHCP is served there.
func (n *Network) addGateway(gateway netip.Prefix, servesDHCP bool) {
	switch {
	case !n.Gateway.IsValid():
		n.Gateway = gateway
	case servesDHCP:
		n.Gateway, n.Others = gateway, append(n.Others, n.Gateway)
	default:
		n.Others = append(n.Others, gateway)
	}
}

// gatewayOf reads an address that is given with a prefix length or a netmask.
func gatewayOf(ip libvirtxml.NetworkIP) (netip.Prefix, bool) {
	addr, err := netip.ParseAddr(ip.Address)
	if err != nil {
		return netip.Prefix{}, false
	}
	bits := int(ip.Prefix)
	if bits == 0 && addr.Is6() {
		bits = 64 // libvirt's default
	}
	if ip.Netmask != "" {
		mask, err := netip.ParseAddr(ip.Netmask)
		if err != nil {
			return netip.Prefix{}, false
		}
		bits = 0
		for _, b := range mask.AsSlice() {
			for ; b&0x80 != 0; b <<= 1 {
				bits++
			}
		}
	}
	return netip.PrefixFrom(addr, bits), true
}

// Reservation returns the XML of a DHCP reservation, as a network update takes
// it. It carries no name: libvirt allows each name once in a network, and two
// VMs may well have the same.
func Reservation(h DHCPHost) (string, error) {
	return (&libvirtxml.NetworkDHCPHost{MAC: h.MAC, IP: h.Addr.String()}).Marshal()
}
