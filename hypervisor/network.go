package hypervisor

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
)

// networks lists the networks that are running, with what is reserved in them now and
// from their next start on.
func (h *Host) networks(ctx context.Context) ([]domxml.Network, error) {
	return call(ctx, h, "listing networks", func(c *libvirt.Libvirt) ([]domxml.Network, error) {
		all, _, err := c.ConnectListAllNetworks(1, libvirt.ConnectListNetworksActive)
		if err != nil {
			return nil, err
		}
		var networks []domxml.Network
		for _, n := range all {
			known, runs, err := inEither(c, n)
			if err != nil {
				return nil, err
			}
			if runs { // still
				networks = append(networks, known)
			}
		}
		return networks, nil
	})
}

// HasNWFilter fails where there is no network filter of a name.
func (h *Host) HasNWFilter(ctx context.Context, name string) error {
	err := do(ctx, h, "looking for network filter "+name, func(c *libvirt.Libvirt) error {
		_, err := c.NwfilterLookupByName(name)
		return err
	})
	if isCode(err, libvirt.ErrNoNwfilter) {
		return fmt.Errorf("libvirt has no network filter %q, which the plugin's nwfilter names; "+
			"virsh nwfilter-list shows those that there are", name)
	}
	return err
}

// Reserve chooses an address of a network's DHCP range for a hardware address,
// and has DHCP give it to no other. Asked again for the same hardware address,
// it returns the same address. An address that is wanted, if that is valid, need
// not be of the range, and may be leased to another. It returns as soon as the address is chosen;
// only when wait has returned nil will DHCP give it out. libvirt takes its time
// for that: at each change it takes the network's firewall rules out, and puts
// them in again.
func (h *Host) Reserve(ctx context.Context, network, mac string, want netip.Addr) (addr netip.Addr, wait func() error, err error) {
	asked := "choosing an address in network " + network
	chosen, err := turn(ctx, &h.choosing, network)
	if err != nil {
		return netip.Addr{}, nil, fmt.Errorf("%s: others are chosen there, and libvirt has not answered yet: %w", asked, err)
	}
	defer chosen()
	promised := h.allPromised()
	addr, err = call(ctx, h, asked, func(c *libvirt.Libvirt) (netip.Addr, error) {
		n, err := c.NetworkLookupByName(network)
		if err != nil {
			return netip.Addr{}, err
		}
		known, runs, err := inEither(c, n)
		if err != nil {
			return netip.Addr{}, err
		}
		if !runs {
			return netip.Addr{}, fmt.Errorf("somebody has stopped it meanwhile; virsh net-start %s starts it", network)
		}
		known.Hosts = append(promised, known.Hosts...)
		leases, _, err := c.NetworkGetDhcpLeases(n, nil, 1, 0)
		if err != nil {
			return netip.Addr{}, err
		}
		return chooseAddress(known, leaseHolders(leases), mac, want)
	})
	if err != nil {
		return netip.Addr{}, nil, err
	}
	host := domxml.DHCPHost{MAC: mac, Addr: addr}
	kept := h.promise(host)
	done := make(chan error, 1)
	go func() {
		err := h.reserve(ctx, network, host)
		kept()
		done <- err
	}()
	return addr, func() error { return <-done }, nil
}

// promise notes that an address is chosen and not reserved yet, until the function that
// it returns is called.
func (h *Host) promise(host domxml.DHCPHost) (kept func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.promised[host.MAC] = host
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.promised, host.MAC)
	}
}

func (h *Host) allPromised() []domxml.DHCPHost {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.promised))
}

func (h *Host) reserve(ctx context.Context, network string, host domxml.DHCPHost) error {
	return h.update(ctx, network, fmt.Sprintf("reserving address %s in network %s", host.Addr, network), func(ctx context.Context, c *libvirt.Libvirt) error {
		n, err := c.NetworkLookupByName(network)
		if err != nil {
			return err
		}
		// One update for both: it is the running network's that takes time.
		var lacking libvirt.NetworkUpdateFlags
		err = eachConfig(c, n, func(known domxml.Network, flag libvirt.NetworkUpdateFlags) error {
			if _, reserved := reservation(known, host.MAC); !reserved {
				lacking |= flag
			}
			return nil
		})
		if err != nil || lacking == 0 {
			return err
		}
		if err := ctx.Err(); err != nil { // nobody waits for it any more
			return err
		}
		return updateHost(c, n, libvirt.NetworkUpdateCommandAddLast, host, lacking)
	})
}

// update has libvirt change a network. The next change of it waits until this one is over
// for libvirt, too: one that was given up may be carried out still, and the next one may be
// what undoes it.
func (h *Host) update(ctx context.Context, network, asked string, fn func(context.Context, *libvirt.Libvirt) error) error {
	over, err := turn(ctx, &h.changing, network)
	if err != nil {
		return fmt.Errorf("%s: network %s is being changed, and libvirt has not done so yet: %w", asked, network, err)
	}
	_, err = callThen(ctx, h, asked, func(ctx context.Context, c *libvirt.Libvirt) (struct{}, error) {
		return struct{}{}, fn(ctx, c)
	}, over)
	return err
}

// Release gives up what Reserve reserved for a hardware address. Where nothing
// is reserved, or the network is gone, that is no error.
func (h *Host) Release(ctx context.Context, network, mac string) error {
	err := h.update(ctx, network, "releasing an address of network "+network, func(_ context.Context, c *libvirt.Libvirt) error {
		n, err := c.NetworkLookupByName(network)
		if err != nil {
			return err
		}
		return eachConfig(c, n, func(known domxml.Network, flag libvirt.NetworkUpdateFlags) error {
			addr, reserved := reservation(known, mac)
			if !reserved {
				return nil
			}
			return updateHost(c, n, libvirt.NetworkUpdateCommandDelete, domxml.DHCPHost{MAC: mac, Addr: addr}, flag)
		})
	})
	if isCode(err, libvirt.ErrNoNetwork) {
		return nil
	}
	return err
}

// inEither is a network as it runs, if it does, with what is reserved there now and from
// its next start on: an administrator may have written the latter alone.
func inEither(c *libvirt.Libvirt, n libvirt.Network) (known domxml.Network, runs bool, err error) {
	var hosts []domxml.DHCPHost
	err = eachConfig(c, n, func(config domxml.Network, flag libvirt.NetworkUpdateFlags) error {
		if flag == libvirt.NetworkUpdateAffectLive {
			known, runs = config, true
		}
		for _, host := range config.Hosts {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
		return nil
	})
	known.Hosts = hosts
	return known, runs, err
}

// eachConfig calls fn for what a network is now, if it runs, and for what it
// will be at its next start, if it is kept.
func eachConfig(c *libvirt.Libvirt, n libvirt.Network, fn func(domxml.Network, libvirt.NetworkUpdateFlags) error) error {
	active, err := c.NetworkIsActive(n)
	if err != nil {
		return err
	}
	persistent, err := c.NetworkIsPersistent(n)
	if err != nil {
		return err
	}
	var flags []libvirt.NetworkUpdateFlags
	if active == 1 {
		flags = append(flags, libvirt.NetworkUpdateAffectLive)
	}
	if persistent == 1 {
		flags = append(flags, libvirt.NetworkUpdateAffectConfig)
	}
	for _, flag := range flags {
		known, err := describe(c, n, flag)
		if err != nil {
			return err
		}
		if err := fn(known, flag); err != nil {
			return err
		}
	}
	return nil
}

func describe(c *libvirt.Libvirt, n libvirt.Network, which libvirt.NetworkUpdateFlags) (domxml.Network, error) {
	var flags libvirt.NetworkXMLFlags
	if which == libvirt.NetworkUpdateAffectConfig {
		flags = libvirt.NetworkXMLInactive
	}
	document, err := c.NetworkGetXMLDesc(n, uint32(flags))
	if err != nil {
		return domxml.Network{}, err
	}
	return domxml.ParseNetwork(document)
}

func updateHost(c *libvirt.Libvirt, n libvirt.Network, command libvirt.NetworkUpdateCommand, host domxml.DHCPHost,
	flag libvirt.NetworkUpdateFlags,
) error {
	document, err := domxml.Reservation(host)
	if err != nil {
		return err
	}
	const anyRange = -1 // the one that has DHCP
	return c.NetworkUpdateCompat(n, command, libvirt.NetworkSectionIPDhcpHost, anyRange, document, flag)
}

func reservation(n domxml.Network, mac string) (netip.Addr, bool) {
	for _, host := range n.Hosts {
		if strings.EqualFold(host.MAC, mac) {
			return host.Addr, true
		}
	}
	return netip.Addr{}, false
}

// leaseHolders tells which hardware address holds which leased address.
func leaseHolders(leases []libvirt.NetworkDhcpLease) map[netip.Addr]string {
	holders := make(map[netip.Addr]string, len(leases))
	for _, lease := range leases {
		addr, err := netip.ParseAddr(lease.Ipaddr)
		if err == nil && len(lease.Mac) > 0 {
			holders[addr] = lease.Mac[0]
		}
	}
	return holders
}

// chooseAddress returns the address that is reserved for a hardware address
// already, or the one it holds a lease of, or the first free one after a place
// in the ranges that the hardware address itself decides: so a task that
// starts again tends to get the address it had.
func chooseAddress(n domxml.Network, leases map[netip.Addr]string, mac string, want netip.Addr) (netip.Addr, error) {
	if want.IsValid() {
		return want, mayHave(n, mac, want)
	}
	if addr, ok := reservation(n, mac); ok {
		return addr, nil
	}
	taken := make(map[netip.Addr]bool)
	taken[n.Gateway.Addr()] = true
	for _, host := range n.Hosts {
		taken[host.Addr] = true
	}
	for addr, holder := range leases {
		if !strings.EqualFold(holder, mac) {
			taken[addr] = true
			continue
		}
		if inRanges(n.Ranges, addr) && !taken[addr] {
			return addr, nil
		}
	}
	sizes, total := make([]uint64, len(n.Ranges)), uint64(0)
	for i, r := range n.Ranges {
		sizes[i] = uint64(number(r.Last)-number(r.First)) + 1
		total += sizes[i]
	}
	hash := fnv.New64a()
	hash.Write([]byte(mac))
	start := hash.Sum64()
	for i := range total {
		if addr := at(n.Ranges, sizes, (start+i)%total); !taken[addr] {
			return addr, nil
		}
	}
	return netip.Addr{}, full(n, leases, total)
}

// full is the error where all addresses of a network are taken. What is leased and not
// reserved is none of a VM of the driver's that there is.
func full(n domxml.Network, leases map[netip.Addr]string, total uint64) error {
	leased := 0
	for addr := range leases {
		isReserved := slices.ContainsFunc(n.Hosts, func(of domxml.DHCPHost) bool { return of.Addr == addr })
		if inRanges(n.Ranges, addr) && !isReserved {
			leased++
		}
	}
	by := ""
	if leased > 0 {
		by = fmt.Sprintf(", %d of them by leases of VMs that have ended, or of machines that are not Nomad's", leased)
	}
	return fmt.Errorf("all %d addresses of its DHCP range are taken%s; widen the range, "+
		"or stop VMs that are not needed (virsh net-dhcp-leases %s lists them)", total, by, n.Name)
}

// mayHave is the error where an address is kept for another. A lease is no reason: who
// had it may be gone.
func mayHave(n domxml.Network, mac string, want netip.Addr) error {
	if own, ok := reservation(n, mac); ok && own != want {
		return fmt.Errorf("address %s is asked for, and %s is reserved for the hardware address %s", want, own, mac)
	}
	if want == n.Gateway.Addr() {
		return fmt.Errorf("address %s is the host's own", want)
	}
	for _, host := range n.Hosts {
		if host.Addr == want && !strings.EqualFold(host.MAC, mac) {
			return fmt.Errorf("address %s is reserved for another machine, with the hardware address %s", want, host.MAC)
		}
	}
	return nil
}

func inRanges(ranges []domxml.AddressRange, addr netip.Addr) bool {
	for _, r := range ranges {
		if r.First.Compare(addr) <= 0 && addr.Compare(r.Last) <= 0 {
			return true
		}
	}
	return false
}

// at returns the i-th address of the ranges laid end to end.
func at(ranges []domxml.AddressRange, sizes []uint64, i uint64) netip.Addr {
	for k, r := range ranges {
		if i < sizes[k] {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], number(r.First)+uint32(i))
			return netip.AddrFrom4(b)
		}
		i -= sizes[k]
	}
	return netip.Addr{}
}

func number(addr netip.Addr) uint32 {
	b := addr.As4()
	return binary.BigEndian.Uint32(b[:])
}
