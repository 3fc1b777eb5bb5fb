package hypervisor

import (
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// Leases lists the IPv4 addresses of a network that DHCP has leased to a hardware
// address: several, where its guest has given itself different names over time. A network
// that is gone has none.
func (h *Host) Leases(ctx context.Context, network, mac string) ([]vm.Lease, error) {
	leases, err := call(ctx, h, "listing leases of network "+network, func(c *libvirt.Libvirt) ([]vm.Lease, error) {
		n, err := c.NetworkLookupByName(network)
		if err != nil {
			return nil, err
		}
		all, _, err := c.NetworkGetDhcpLeases(n, libvirt.OptString{mac}, 1, 0)
		if err != nil || len(all) == 0 {
			return nil, err
		}
		known, runs, err := inEither(c, n)
		if err != nil {
			return nil, err
		}
		if !runs {
			return nil, errors.New("the network does not run, so that nobody serves DHCP there")
		}
		return leasesIn(known, mac, all), nil
	})
	if isCode(err, libvirt.ErrNoNetwork) {
		return nil, nil
	}
	return leases, err
}

// leasesIn are the leases of IPv4 addresses among those that libvirt lists of a hardware
// address.
func leasesIn(n domxml.Network, mac string, all []libvirt.NetworkDhcpLease) (leases []vm.Lease) {
	for _, lease := range all {
		addr, err := netip.ParseAddr(lease.Ipaddr)
		if err != nil || !addr.Is4() {
			continue
		}
		leases = append(leases, vm.Lease{
			MAC: mac, Addr: addr, ClientID: clientID(lease.Clientid), Server: n.Gateway.Addr(), Bridge: n.Bridge,
		})
	}
	return leases
}

// clientID reads what libvirt tells of a client's own name, as in "01:52:54:00:12:34:56".
// dnsmasq's word for none is "*".
func clientID(said libvirt.OptString) []byte {
	if len(said) == 0 {
		return nil
	}
	id, err := hex.DecodeString(strings.ReplaceAll(said[0], ":", ""))
	if err != nil {
		return nil
	}
	return id
}
