package driver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/vm"
)

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})

// onDualNetwork is a request of a VM on a network that has IPv6, on a host that has it, too.
func onDualNetwork(t *testing.T, more string) request {
	t.Helper()
	r := newRequest(t, `
		disk { source { image = "debian.qcow2" } }
		network_interface {
			mac = "52:54:00:12:34:56"
			bridge { name = "virbr0" `+more+` }
		}`)
	r.facts.Networks[0].Gateway6, r.facts.Networks[0].LeadsOut = netip.MustParsePrefix("fd42::1/64"), true
	at := slices.IndexFunc(r.links, func(l bridge.Link) bool { return l.Name == "eth0" })
	r.links[at].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("fd99::2")}
	return r
}

func TestGuestHasAnAddressOfBothVersions(t *testing.T) {
	for name, c := range map[string]struct{ bridge, gateway, want string }{
		"by DHCP and by the hardware address": {"", "fd42::1/64", "fd42::5054:ff:fe12:3456/64"},
		"beside one that the job says":        {`address = "192.168.122.200/24"`, "fd42::1/64", "fd42::5054:ff:fe12:3456/64"},
		"in a network of many":                {"", "fd42:0:0:7::9/56", "fd42::7:5054:ff:fe12:3456/56"},
		"none where there is no room for it":  {"", "fd42::1/80", "invalid Prefix"},
		"none in a network without IPv6":      {"", "", "invalid Prefix"},
	} {
		r := onDualNetwork(t, c.bridge)
		r.facts.Networks[0].Gateway6, _ = netip.ParsePrefix(c.gateway)
		spec := mustPlan(t, r)
		i := spec.Interfaces[0]
		if got := i.Address6.String(); got != c.want {
			t.Errorf("%s: the address is %s, want %s", name, got, c.want)
		}
		if want := r.facts.Networks[0].Gateway6.Addr(); i.Address6.IsValid() && i.Gateway6 != want {
			t.Errorf("%s: the gateway is %s, want %s", name, i.Gateway6, want)
		}
		isTold := len(spec.Seed.Interfaces) > 0
		if want := i.Address6.IsValid() || i.Address.IsValid(); isTold != want {
			t.Errorf("%s: cloud-init is told of it: %t, want %t", name, isTold, want)
		}
	}
}

func TestPortsArePublishedOnBothVersions(t *testing.T) {
	host := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		ports string
		want  []vm.Port
	}{
		"that of an IPv4 address": {`"http"`, []vm.Port{
			{Label: "http", Host: host("192.0.2.10:25000"), Guest: 8000},
			{Label: "http", Host: host("[2001:db8::10]:25000"), Guest: 8000, Beside: true},
			{Label: "http", Host: host("[fd99::2]:25000"), Guest: 8000, Beside: true},
		}},
		"that of an IPv6 address there alone": {`"http6"`, []vm.Port{{Label: "http6", Host: host("[2001:db8::10]:25002"), Guest: 8000}}},
		"that of the loopback there alone":    {`"ssh"`, []vm.Port{{Label: "ssh", Host: host("127.0.0.1:25001"), Guest: 25001}}},
	} {
		got := mustPlan(t, onDualNetwork(t, `ports = [`+c.ports+`]`)).Interfaces[0].Ports
		if diff := cmp.Diff(c.want, got, compareAddrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// The guest has no address there.
	r := onDualNetwork(t, `ports = ["http"]`)
	r.facts.Networks[0].Gateway6 = netip.Prefix{}
	if got := mustPlan(t, r).Interfaces[0].Ports; len(got) != 1 {
		t.Errorf("the ports are %v, want that of IPv4 alone", got)
	}
}

// Who chose a private network for a port has not asked for the internet.
func TestPortsBesideReachNoFurther(t *testing.T) {
	const public, private = "[2001:db8::10]:25000", "[fd99::2]:25000"
	for chosen, beside := range map[string][]string{
		"192.0.2.10":      {public, private},
		"100.63.255.255":  {public, private},
		"100.128.0.1":     {public, private},
		"169.253.255.255": {public, private},
		"10.1.2.3":        {private},
		"172.16.0.1":      {private},
		"192.168.1.1":     {private},
		"100.64.0.1":      {private},
		"100.127.255.255": {private},
		"169.254.1.1":     {private},
	} {
		t.Run(chosen, func(t *testing.T) {
			r := onDualNetwork(t, `ports = ["http"]`)
			(*r.nomad.Resources.Ports)[0].HostIP = chosen
			for k := range r.links {
				if len(r.links[k].Addrs) > 0 {
					r.links[k].Addrs[0] = netip.MustParseAddr(chosen)
				}
			}
			var got []string
			for _, p := range mustPlan(t, r).Interfaces[0].Ports {
				got = append(got, p.Host.String())
			}
			if want := append([]string{chosen + ":25000"}, beside...); !slices.Equal(got, want) {
				t.Errorf("published on %q, want %q", got, want)
			}
		})
	}
}

func TestGuestsThatAreFilteredHaveNoIPv6(t *testing.T) {
	r := onDualNetwork(t, `ports = ["http", "http6"]`)
	r.config.NWFilter = "clean-traffic"
	const want = `config.network_interface[0].bridge.ports: Nomad gave port "http6" the IPv6 address 2001:db8::10, ` +
		`and this client lets no IPv6 through to VMs (nwfilter = "clean-traffic"): take a host_network of IPv4`
	spec, p := plan(r)
	if strings.Join(p, "\n") != want {
		t.Errorf("the problems are\n%s\nwant\n%s", strings.Join(p, "\n"), want)
	}
	if i := spec.Interfaces[0]; i.Address6.IsValid() || i.Gateway6.IsValid() || len(i.Ports) != 2 {
		t.Errorf("the interface is %+v, want no IPv6", i)
	}
	r.config.NWFilter = "of-my-own"
	if i := mustPlan(t, r).Interfaces[0]; !i.Address6.IsValid() {
		t.Error("a filter that nobody knows here takes IPv6 away")
	}
}

func TestGuestsHaveOneWayOutByIPv6(t *testing.T) {
	r := onDualNetwork(t, "")
	r.task.NetworkInterfaces = append(r.task.NetworkInterfaces, NetworkInterface{Bridge: &Bridge{Name: "virbr7"}})
	r.facts.Networks[1].Gateway6 = netip.MustParsePrefix("fd43::1/64")
	for _, c := range []struct{ first, second bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		r.facts.Networks[0].LeadsOut, r.facts.Networks[1].LeadsOut = c.first, c.second
		all := mustPlan(t, r).Interfaces
		if !all[0].Address6.IsValid() || !all[1].Address6.IsValid() {
			t.Fatalf("the interfaces are %+v, want both to have IPv6", all)
		}
		if got := all[0].Gateway6.IsValid(); got != c.first {
			t.Errorf("with networks that lead out %+v the first is a way out: %t", c, got)
		}
		if got := all[1].Gateway6.IsValid(); got != (c.second && !c.first) {
			t.Errorf("with networks that lead out %+v the second is a way out: %t", c, got)
		}
	}
}

func TestPublicationsAreOfOneVersionEach(t *testing.T) {
	ipv4 := vm.Port{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:80"), Guest: 8000}
	ipv6 := vm.Port{Label: "http", Host: netip.MustParseAddrPort("[fd99::2]:80"), Guest: 8000, Beside: true}
	i := vm.Interface{Bridge: "virbr0", Address6: netip.MustParsePrefix("fd42::5/64"), Ports: []vm.Port{ipv4, ipv6}}
	want := []vm.Publication{
		{VM: "web", Bridge: "virbr0", Guest: netip.MustParseAddr("192.168.122.5"), Ports: []vm.Port{ipv4}},
		{VM: "web", Bridge: "virbr0", Guest: netip.MustParseAddr("fd42::5"), Ports: []vm.Port{ipv6}},
	}
	if diff := cmp.Diff(want, publicationsOf("web", i, netip.MustParseAddr("192.168.122.5")), compareAddrs); diff != "" {
		t.Errorf("with both addresses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:], publicationsOf("web", i, netip.Addr{}), compareAddrs); diff != "" {
		t.Errorf("with one that is not known (-want +got):\n%s", diff)
	}
}
