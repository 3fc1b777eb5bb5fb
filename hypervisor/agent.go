package hypervisor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
)

const (
	// addressesWithin is how long a guest's agent has to tell its addresses.
	addressesWithin = 10 * time.Second
	// agentResponseWithin is the same of each of its answers, in seconds. A request to
	// shut down is not bound by it.
	agentResponseWithin = 5
	// mostAddressees is how many are asked that at once.
	mostAddressees = 4
)

// AgentAddresses returns the IP addresses of a guest's interfaces, by hardware
// address in lower case, as its QEMU agent tells them. A guest may say what it
// likes. It fails where there is no agent that answers; when others are being asked,
// it waits for its turn.
//
// See virDomainInterfaceAddresses in https://libvirt.org/html/libvirt-libvirt-domain.html
func (h *Host) AgentAddresses(ctx context.Context, name string) (map[string][]netip.Addr, error) {
	select {
	case h.addressees <- struct{}{}:
		defer func() { <-h.addressees }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	all := make(map[string][]netip.Addr)
	err := h.apart(ctx, addressesWithin, name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		// libvirt would wait for an answer as long as the VM runs, and keep one of its
		// workers for that, whether or not anybody waits for it.
		if _, err := c.DomainAgentSetResponseTimeout(d, agentResponseWithin, 0); err != nil {
			return err
		}
		interfaces, err := c.DomainInterfaceAddresses(d, uint32(libvirt.DomainInterfaceAddressesSrcAgent), 0)
		for _, i := range interfaces {
			for _, mac := range i.Hwaddr {
				mac = strings.ToLower(mac)
				for _, a := range i.Addrs {
					if addr, err := netip.ParseAddr(a.Addr); err == nil {
						all[mac] = append(all[mac], addr)
					}
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("asking the agent of domain %s for its addresses: %w", name, err)
	}
	return all, nil
}

// apart calls fn with a domain on a connection of its own, which is closed when the
// time is over: for what takes as long as the guest likes.
func (h *Host) apart(ctx context.Context, within time.Duration, name string, fn func(*libvirt.Libvirt, libvirt.Domain) error) (err error) {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	given := time.AfterFunc(within, func() { conn.Close() })
	defer func() {
		if !given.Stop() && err != nil {
			err = fmt.Errorf("no answer within %s", within)
		}
	}()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	client, _, err := h.open(ctx, conn, toNothing)
	if err != nil {
		return err
	}
	d, err := client.DomainLookupByName(name)
	if err == nil {
		err = fn(client, d)
	}
	if isCode(err, libvirt.ErrNoDomain) {
		return ErrNoDomain
	}
	return err
}
