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
	leave, err := h.addressees.pass(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the agent of domain %s for its addresses: %w", name, err)
	}
	defer leave()
	asking, cancel := context.WithTimeout(ctx, addressesWithin)
	defer cancel()
	all := make(map[string][]netip.Addr)
	err = h.apart(asking, withDomain(name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
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
	}))
	if err != nil {
		return nil, fmt.Errorf("asking the agent of domain %s for its addresses: %w", name, err)
	}
	return all, nil
}
