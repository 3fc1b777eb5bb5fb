package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
)

const (
	ours   = "52:54:00:ab:cd:ef"
	theirs = "52:54:00:12:34:56"
)

// network is a network that gives out the ranges, "first-last" each.
func network(ranges ...string) domxml.Network {
	n := domxml.Network{Name: "default", Bridge: "virbr0", Gateway: netip.MustParsePrefix("10.0.0.1/24")}
	for _, r := range ranges {
		var first, last string
		if _, err := fmt.Sscanf(r, "%s - %s", &first, &last); err != nil {
			panic(err)
		}
		n.Ranges = append(n.Ranges, domxml.AddressRange{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)})
	}
	return n
}

func reserved(n domxml.Network, mac, addr string) domxml.Network {
	n.Hosts = append(n.Hosts, domxml.DHCPHost{MAC: mac, Addr: netip.MustParseAddr(addr)})
	return n
}

func TestChooseAddress(t *testing.T) {
	wide := network("10.0.0.2 - 10.0.0.254")
	type leases map[string]string
	for _, test := range []struct {
		name    string
		network domxml.Network
		leases  leases
		want    string
	}{
		{"what is reserved for it", reserved(wide, ours, "10.0.0.77"), nil, "10.0.0.77"},
		{"what is reserved for it, outside of the range", reserved(network("10.0.0.2 - 10.0.0.9"), ours, "10.0.0.77"), nil, "10.0.0.77"},
		{"what is reserved for it, in capitals", reserved(wide, "52:54:00:AB:CD:EF", "10.0.0.77"), nil, "10.0.0.77"},
		{"a reservation before a lease", reserved(wide, ours, "10.0.0.77"), leases{"10.0.0.88": ours}, "10.0.0.77"},
		{"the lease that it holds", wide, leases{"10.0.0.88": ours, "10.0.0.89": theirs}, "10.0.0.88"},
		{"not a lease that is reserved for another", reserved(network("10.0.0.2 - 10.0.0.3"), theirs, "10.0.0.2"), leases{"10.0.0.2": ours}, "10.0.0.3"},
		{"not a lease of a range that is no more", network("10.0.0.2 - 10.0.0.2"), leases{"10.0.0.88": ours}, "10.0.0.2"},
		{"not the gateway", network("10.0.0.1 - 10.0.0.2"), nil, "10.0.0.2"},
		{"not what another holds", network("10.0.0.2 - 10.0.0.4"), leases{"10.0.0.2": theirs, "10.0.0.4": theirs}, "10.0.0.3"},
		{"not what is reserved for another", reserved(network("10.0.0.2 - 10.0.0.3"), theirs, "10.0.0.3"), nil, "10.0.0.2"},
		{"a range of one", network("10.0.0.9 - 10.0.0.9"), nil, "10.0.0.9"},
		{"the second range when the first is full", network("10.0.0.2 - 10.0.0.2", "10.0.0.9 - 10.0.0.9"), leases{"10.0.0.2": theirs}, "10.0.0.9"},
		{"the first range when the second is full", network("10.0.0.2 - 10.0.0.2", "10.0.0.9 - 10.0.0.9"), leases{"10.0.0.9": theirs}, "10.0.0.2"},
		{"over the border of a byte", network("10.0.0.255 - 10.0.1.0"), leases{"10.0.0.255": theirs}, "10.0.1.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			held := make(map[netip.Addr]string)
			for addr, mac := range test.leases {
				held[netip.MustParseAddr(addr)] = mac
			}
			got, err := chooseAddress(test.network, held, ours, netip.Addr{})
			if err != nil {
				t.Fatal(err)
			}
			if got != netip.MustParseAddr(test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestChooseAddressIsStableAndSpreads(t *testing.T) {
	n := network("10.0.0.2 - 10.0.0.254")
	const macs = 50
	seen := make(map[netip.Addr]bool)
	for i := range macs {
		mac := fmt.Sprintf("52:54:00:00:00:%02x", i)
		first, err := chooseAddress(n, nil, mac, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := chooseAddress(n, nil, mac, netip.Addr{}); err != nil || again != first {
			t.Errorf("%s is given %s first and then %s, %v", mac, first, again, err)
		}
		seen[first] = true
	}
	// Drawn from 253 at random, 50 addresses are 45 different ones.
	if len(seen) < 40 {
		t.Errorf("%d hardware addresses are given %d addresses", macs, len(seen))
	}
}

func TestChooseAddressUsesTheWholeRange(t *testing.T) {
	n := network("10.0.0.1 - 10.0.0.7", "10.0.0.100 - 10.0.0.103")
	const free = 7 + 4 - 1 // the gateway is in the first range
	for i := range free {
		mac := fmt.Sprintf("52:54:00:00:00:%02x", i)
		addr, err := chooseAddress(n, nil, mac, netip.Addr{})
		if err != nil {
			t.Fatalf("after %d of %d: %v", i, free, err)
		}
		for _, host := range n.Hosts {
			if host.Addr == addr {
				t.Fatalf("%s is given to %s and to %s", addr, host.MAC, mac)
			}
		}
		n = reserved(n, mac, addr.String())
	}

	_, err := chooseAddress(n, nil, ours, netip.Addr{})
	const want = "all 11 addresses of its DHCP range are taken; widen the range, " +
		"or stop VMs that are not needed (virsh net-dhcp-leases default lists them)"
	if err == nil || err.Error() != want {
		t.Errorf("the error of a full range is\n%v, want\n%s", err, want)
	}
	n.Hosts = n.Hosts[2:]
	leases := make(map[netip.Addr]string)
	for addr := netip.MustParseAddr("10.0.0.1"); addr != netip.MustParseAddr("10.0.0.104"); addr = addr.Next() {
		leases[addr] = theirs
	}
	delete(leases, n.Gateway.Addr())
	_, err = chooseAddress(n, leases, ours, netip.Addr{})
	const by = "all 11 addresses of its DHCP range are taken, 2 of them by leases of VMs that have ended, or of machines that are not Nomad's; "
	if err == nil || !strings.HasPrefix(err.Error(), by) {
		t.Errorf("the error of a range full of leases is\n%v, want\n%s…", err, by)
	}
}

func TestAddressThatIsAskedForIsNobodyElses(t *testing.T) {
	const ours, other = "52:54:00:00:00:01", "52:54:00:00:00:02"
	addr := netip.MustParseAddr
	n := domxml.Network{
		Name: "default", Gateway: netip.MustParsePrefix("192.168.122.1/24"),
		Hosts: []domxml.DHCPHost{{MAC: other, Addr: addr("192.168.122.7")}},
	}
	leases := map[netip.Addr]string{addr("192.168.122.8"): other, addr("192.168.122.9"): strings.ToUpper(ours)}
	for want, says := range map[string]string{
		"192.168.122.50": "",
		"192.168.122.9":  "", // its own, as it is known by DHCP
		"192.168.122.1":  "is the host's own",
		"192.168.122.7":  "is reserved for another machine, with the hardware address " + other,
		"192.168.122.8":  "", // who had a lease may be gone
	} {
		got, err := chooseAddress(n, leases, ours, addr(want))
		switch {
		case says == "" && (err != nil || got != addr(want)):
			t.Errorf("%s: got %s, %v", want, got, err)
		case says != "" && (err == nil || !strings.Contains(err.Error(), says)):
			t.Errorf("%s: error %v, want one that says %q", want, err, says)
		}
	}
	n.Hosts = []domxml.DHCPHost{{MAC: ours, Addr: addr("192.168.122.3")}}
	if _, err := chooseAddress(n, nil, ours, addr("192.168.122.50")); err == nil || !strings.Contains(err.Error(), "192.168.122.3 is reserved") {
		t.Errorf("another address is reserved for it: error %v", err)
	}
}

// A reservation that was given up is carried out before what releases it, or not at all.
func TestChangeOfANetworkWaitsForTheOneBefore(t *testing.T) {
	h, err := New("qemu:///system")
	if err != nil {
		t.Fatal(err)
	}
	h.set(libvirt.NewWithDialer(dialed{}), nil) // nothing is asked of it
	answer, gaveUp := make(chan struct{}), make(chan error, 1)
	err = h.update(within(t, 20*time.Millisecond), "default", "reserving", func(ctx context.Context, _ *libvirt.Libvirt) error {
		<-answer
		gaveUp <- ctx.Err()
		return nil
	})
	mustSay(t, err, "reserving: libvirt did not answer")
	released := make(chan struct{})
	go func() {
		defer close(released)
		_ = h.update(t.Context(), "default", "releasing", func(context.Context, *libvirt.Libvirt) error { return nil })
	}()
	select {
	case <-released:
		t.Error("the release did not wait for the reservation before it")
	case <-time.After(100 * time.Millisecond):
	}
	close(answer)
	if err := <-gaveUp; err == nil {
		t.Error("the reservation is not told that it was given up")
	}
	select {
	case <-released:
	case <-within(t, 5*time.Second).Done():
		t.Error("the release still waits")
	}
}

// libvirt may hang in a change of a network for as long as it likes.
func TestChangeOfANetworkThatHangsHoldsUpNobodyForGood(t *testing.T) {
	h := mustNew(t, "qemu:///system")
	h.set(libvirt.NewWithDialer(dialed{}), nil) // nothing is asked of it
	change := func(network string, fn func()) error {
		return h.update(within(t, 50*time.Millisecond), network, "releasing", func(context.Context, *libvirt.Libvirt) error {
			fn()
			return nil
		})
	}
	answer := make(chan struct{})
	defer close(answer)
	mustSay(t, change("default", func() { <-answer }), "libvirt did not answer")
	done := make(chan error, 1)
	go func() { done <- change("default", func() { t.Error("two changes are made at once") }) }()
	select {
	case err := <-done:
		mustSay(t, err, "releasing: network default is being changed", context.DeadlineExceeded.Error())
	case <-within(t, 5*time.Second).Done():
		t.Error("the next change waits when its time is over")
	}
	must(t, change("other", func() {}))
}

func TestWhoHasNoTimeToChooseAnAddressGivesUp(t *testing.T) {
	h := mustNew(t, "qemu:///system")
	over, err := h.choosing.Take(t.Context(), "default")
	must(t, err)
	defer over()
	_, _, err = h.Reserve(within(t, 50*time.Millisecond), "default", ours, netip.Addr{})
	mustSay(t, err, "choosing an address in network default: others are chosen there", context.DeadlineExceeded.Error())
}

func TestChangeOfANetworkThatCannotBeginLetsTheNextOne(t *testing.T) {
	h, err := New("qemu:///system")
	if err != nil {
		t.Fatal(err)
	}
	h.set(nil, errors.New("libvirt is away"))
	for range 2 {
		err := h.update(within(t, 5*time.Second), "default", "reserving", func(context.Context, *libvirt.Libvirt) error { return nil })
		mustSay(t, err, "reserving: libvirt is away")
	}
}
