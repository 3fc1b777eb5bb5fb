package driver

import (
	"fmt"
	"net/netip"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/nomad/structs"

	"nomad-driver-virt/vm"
)

func TestPlanRefusesNetworks(t *testing.T) {
	bridge := func(content string) string { return oneDisk + "network_interface { bridge { " + content + " } }" }
	testRefusals(t, []refusal{
		{name: "a bridge without ports", config: bridge(`name = "virbr7"`)},
		{
			name:   "a bridge without a name",
			config: bridge(`ports = ["http"]`),
			want:   []string{"config.network_interface[0].bridge.name: is missing; libvirt's default network has virbr0"},
		},
		{
			name:   "a bridge of no network",
			config: bridge(`name = "br0"`),
			want: []string{`config.network_interface[0].bridge.name: no libvirt network that runs has the bridge "br0", ` +
				"and other bridges are not supported yet; there are: virbr0 (network default), virbr7 (network lab)"},
		},
		{
			name:   "a bridge where no network runs",
			config: bridge(`name = "virbr0"`),
			change: func(r *request) { r.facts.Networks = nil },
			want: []string{`config.network_interface[0].bridge.name: no libvirt network that runs has the bridge "virbr0", ` +
				"and other bridges are not supported yet; there are: none; start one: virsh net-start default"},
		},
		{
			name:   "a network without DHCP",
			config: bridge(`name = "virbr0"`),
			change: func(r *request) { r.facts.Networks[0].Ranges = nil },
			want: []string{`config.network_interface[0].bridge.name: libvirt network default of bridge "virbr0" ` +
				"has no DHCP for IPv4, which is not supported yet"},
		},
		{
			name:   "a port that the group does not have",
			config: bridge(`name = "virbr0" ports = ["http", "https"]`),
			want: []string{
				`config.network_interface[0].bridge.ports[1]: the group has no port "https"; it has: http, ssh, http6`,
			},
		},
		{
			name:   "a port of a group without ports",
			config: bridge(`name = "virbr0" ports = ["http"]`),
			change: func(r *request) { r.nomad.Resources.Ports = nil },
			want: []string{`config.network_interface[0].bridge.ports[0]: the group has no port "http"; ` +
				`it has none: add network { port "http" { to = … } } to the group`},
		},
		{
			name:   "a port twice",
			config: bridge(`name = "virbr0" ports = ["http", "ssh", "http"]`),
			want:   []string{`config.network_interface[0].bridge.ports[2]: the label "http" is there twice`},
		},
		{
			name:   "a port on an IPv6 address",
			config: bridge(`name = "virbr0" ports = ["http6"]`),
			want: []string{`config.network_interface[0].bridge.ports[0]: Nomad gave port "http6" the address "2001:db8::10"; ` +
				"ports on other than IPv4 addresses are not supported yet"},
		},
		{
			name:   "macvtap",
			config: oneDisk + `network_interface { macvtap { device = "eth0" mode = "bridge" } }`,
			want:   []string{"config.network_interface[0].macvtap: is not supported yet; use a bridge"},
		},
		{
			name:   "both kinds at once",
			config: oneDisk + `network_interface { bridge { name = "virbr0" } macvtap { device = "eth0" } }`,
			want:   []string{"config.network_interface[0]: has to hold one block, bridge or macvtap"},
		},
		{
			name:   "neither kind",
			config: oneDisk + `network_interface {}`,
			want:   []string{"config.network_interface[0]: has to hold one block, bridge or macvtap"},
		},
		{
			name:   "several",
			config: bridge(`name = "virbr0"`) + `network_interface { bridge { name = "br1" } }`,
			want: []string{
				"config.network_interface: several interfaces are not supported yet, there are 2",
				`config.network_interface[1].bridge.name: no libvirt network that runs has the bridge "br1", ` +
					"and other bridges are not supported yet; there are: virbr0 (network default), virbr7 (network lab)",
			},
		},
	})
}

func TestVMWithoutInterfaceHasNone(t *testing.T) {
	if n := mustPlan(t, newRequest(t, oneDisk)).Interfaces; len(n) != 0 {
		t.Errorf("a task without network_interface has %v, want no interface", n)
	}
}

func TestPortsAreThoseThatNomadGave(t *testing.T) {
	r := newRequest(t, oneDisk+`network_interface {
		bridge {
			name  = "virbr0"
			ports = ["mapped", "same", "negative", "http"]
		}
	}`)
	r.nomad.Resources.Ports = &structs.AllocatedPorts{
		{Label: "http", Value: 25000, To: 8000, HostIP: "192.0.2.10"},
		{Label: "same", Value: 25001, To: 0, HostIP: "127.0.0.1"},
		{Label: "negative", Value: 25002, To: -1, HostIP: "0.0.0.0"},
		{Label: "mapped", Value: 25003, To: 22, HostIP: "::ffff:192.0.2.10"},
		{Label: "another task's", Value: 25004, To: 23, HostIP: "192.0.2.10"},
	}
	want := []vm.Port{
		{Label: "mapped", Host: netip.MustParseAddrPort("192.0.2.10:25003"), Guest: 22},
		{Label: "same", Host: netip.MustParseAddrPort("127.0.0.1:25001"), Guest: 25001},
		{Label: "negative", Host: netip.MustParseAddrPort("0.0.0.0:25002"), Guest: 25002},
		{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 8000},
	}
	got := mustPlan(t, r).Interfaces[0].Ports
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("the ports (-want +got):\n%s", diff)
	}
}

func TestMACIsOfOneInterfaceOfOneTaskOfOneAllocation(t *testing.T) {
	form := regexp.MustCompile(`^52:54(:[0-9a-f]{2}){4}$`)
	seen := make(map[string]string)
	for _, alloc := range []string{"a", "b"} {
		for _, task := range []string{"web", "db"} {
			for index := range 3 {
				mac, of := macOf(alloc, task, index), fmt.Sprint(alloc, "/", task, "/", index)
				if !form.MatchString(mac) {
					t.Errorf("%s has the address %q, want one of the form %s", of, mac, form)
				}
				if other, is := seen[mac]; is {
					t.Errorf("%s and %s have the same address %s, want different ones", of, other, mac)
				}
				seen[mac] = of
			}
		}
	}
}

func TestMACOutlastsARestart(t *testing.T) {
	first, second := newRequest(t, exampleTask), newRequest(t, exampleTask)
	second.nomad.ID = second.nomad.AllocID + "/virt-task/ffffffff"
	a, b := mustPlan(t, first), mustPlan(t, second)
	if a.Interfaces[0].MAC != b.Interfaces[0].MAC {
		t.Errorf("a restart changes the address from %s to %s, want the same", a.Interfaces[0].MAC, b.Interfaces[0].MAC)
	}
	if a.Name == b.Name || a.Seed.InstanceID == b.Seed.InstanceID {
		t.Errorf("a restart keeps the name %s or the instance %s, want new ones", a.Name, a.Seed.InstanceID)
	}
}
