package driver

import (
	"context"
	"fmt"
	"time"
)

const (
	// leaseTimeout bounds what is done about the leases of one interface.
	leaseTimeout = 3 * time.Second
	// leaseGone is how soon a lease is looked for that was given back, at first: it takes
	// dnsmasq some milliseconds to tell libvirt.
	leaseGone = 25 * time.Millisecond
)

// endLeases gives back the addresses that DHCP has leased to an interface of a VM that
// is off. Nobody else gets them for as long as they are leased, so that VMs that come and
// go would fill a network. What cannot be given back is no reason to keep the rest of a
// VM: leases end by themselves.
func (m *machines) endLeases(ctx context.Context, name, network, mac string) {
	if err := m.giveBack(ctx, network, mac); err != nil {
		m.warn("a VM's address could not be given back to DHCP, which gives it to no other until the lease is over",
			"vm", name, "network", network, "error", err)
	}
}

// giveBack returns when libvirt knows of no such lease any more. There is no answer to a
// lease that is given back, and what was sent may be lost.
func (m *machines) giveBack(ctx context.Context, network, mac string) error {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	for pause := leaseGone; ; pause *= 2 {
		leases, err := m.host.Leases(ctx, network, mac)
		if err != nil || len(leases) == 0 {
			return err
		}
		for _, lease := range leases {
			if err := m.release(ctx, lease); err != nil {
				return err
			}
		}
		if wait(ctx, pause); ctx.Err() != nil {
			return fmt.Errorf("DHCP was told several times, and %s is leased to %s still", leases[0].Addr, mac)
		}
	}
}
