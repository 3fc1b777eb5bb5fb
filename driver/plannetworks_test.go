package driver

import (
	"fmt"
	"net/netip"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/nomad/structs"

	"nomad-driver-virt/domxml"
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
			name:   "a bridge that the host does not have",
			config: bridge(`name = "br0"`),
			want: []string{`config.network_interface[0].bridge.name: the host has no bridge "br0"; ` +
				"there are: br-lan, virbr0 (network default), virbr7 (network lab)"},
		},
		{
			name:   "a bridge where no network runs",
			config: bridge(`name = "virbr0"`),
			change: func(r *request) { r.facts.Networks, r.links = nil, nil },
			want: []string{`config.network_interface[0].bridge.name: the host has no bridge "virbr0"; ` +
				"there are: none; start a network of libvirt's: virsh net-start default"},
		},
		{name: "a bridge without a network", config: bridge(`name = "br-lan"`)},
		{name: "ports on a bridge without a network", config: bridge(`name = "br-lan" ports = ["http"]`)},
		{
			name:   "ports on a network without DHCP",
			config: bridge(`name = "virbr0" ports = ["http"]`),
			change: func(r *request) { r.facts.Networks[0].Ranges = nil },
		},
		{name: "ports at an address", config: bridge(`name = "br-lan" address = "10.1.2.3/16" gateway = "10.1.0.1" dns = ["9.9.9.9"] ports = ["http"]`)},
		{name: "an address of a network", config: bridge(`name = "virbr0" address = "192.168.122.50/24"`)},
		{
			name:   "addresses that are none",
			config: bridge(`name = "br-lan" address = "10.1.2.3" gateway = "gw" dns = ["ns", "9.9.9.9"]`),
			want: []string{
				`config.network_interface[0].bridge.address: "10.1.2.3" is no address with the length of its prefix, as in "192.0.2.5/24"`,
				`config.network_interface[0].bridge.gateway: "gw" is no IP address`,
				`config.network_interface[0].bridge.dns[0]: "ns" is no IP address`,
			},
		},
		{
			name:   "an address of many",
			config: bridge(`name = "br-lan" address = "224.0.0.1/4"`),
			want:   []string{`config.network_interface[0].bridge.address: 224.0.0.1/4 is not the address of one machine`},
		},
		{
			name:   "an IPv6 address",
			config: bridge(`name = "br-lan" address = "2001:db8::1/64"`),
			want:   []string{`config.network_interface[0].bridge.address: 2001:db8::1/64 is not IPv4; others are not supported yet`},
		},
		{
			name:   "a gateway elsewhere",
			config: bridge(`name = "br-lan" address = "10.1.2.3/16" gateway = "10.2.0.1"`),
			want:   []string{`config.network_interface[0].bridge.gateway: 10.2.0.1 is not in 10.1.0.0/16, the network of the address`},
		},
		{
			name:   "an address of another network",
			config: bridge(`name = "virbr0" address = "10.1.2.3/16"`),
			want: []string{`config.network_interface[0].bridge.address: 10.1.2.3/16 is not in 192.168.122.0/24, ` +
				"the addresses of libvirt network default"},
		},
		{
			name:   "the host's address",
			config: bridge(`name = "virbr0" address = "192.168.122.1/24"`),
			want:   []string{`config.network_interface[0].bridge.address: 192.168.122.1 is the host's own, on virbr0; choose another`},
		},
		{
			name:   "the host's address on another device",
			config: bridge(`name = "br-lan" address = "192.0.2.10/24"`),
			change: func(r *request) { r.links[1].Addrs = []netip.Addr{netip.MustParseAddr("192.0.2.10")} },
			want:   []string{`config.network_interface[0].bridge.address: 192.0.2.10 is the host's own, on eth0; choose another`},
		},
		{
			name:   "the host's address on a bridge of a network's, as the kernel tells it",
			config: bridge(`name = "br-lan" address = "192.168.122.1/24"`),
			change: func(r *request) { r.links[2].Addrs = []netip.Addr{netip.MustParseAddr("192.168.122.1")} },
			want:   []string{`config.network_interface[0].bridge.address: 192.168.122.1 is the host's own, on virbr0; choose another`},
		},
		{
			name:   "an address of another network, without DHCP",
			config: bridge(`name = "virbr0" address = "10.1.2.3/16"`),
			change: func(r *request) { r.facts.Networks[0].Ranges = nil },
			want: []string{`config.network_interface[0].bridge.address: 10.1.2.3/16 is not in 192.168.122.0/24, ` +
				"the addresses of libvirt network default"},
		},
		{
			name:   "an address of the other of two, without DHCP",
			config: bridge(`name = "virbr0" address = "10.1.2.3/16"`),
			change: func(r *request) {
				r.facts.Networks[0].Ranges, r.facts.Networks[0].Others = nil, []netip.Prefix{netip.MustParsePrefix("10.1.0.1/16")}
			},
		},
		{
			name:   "an address on a bridge that libvirt has no say in",
			config: bridge(`name = "virbr0" address = "10.1.2.3/16"`),
			change: func(r *request) {
				r.facts.Networks[0].Ranges, r.facts.Networks[0].Gateway = nil, netip.Prefix{}
			},
		},
		{
			name:   "a gateway for DHCP",
			config: bridge(`name = "virbr0" gateway = "192.168.122.1"`),
			want:   []string{`config.network_interface[0].bridge.address: is missing; gateway and dns go with it, DHCP brings its own`},
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
				`it has none: add a block port "http", with to = …, to the group's network block`},
		},
		{
			name:   "a port twice",
			config: bridge(`name = "virbr0" ports = ["http", "ssh", "http"]`),
			want:   []string{`config.network_interface[0].bridge.ports[2]: the label "http" is there twice; leave one out`},
		},
		{
			name:   "a port on an IPv6 address",
			config: bridge(`name = "virbr0" ports = ["http6"]`),
			want: []string{`config.network_interface[0].bridge.ports: Nomad gave port "http6" the IPv6 address 2001:db8::10, ` +
				`and the guest has none on bridge "virbr0": a libvirt network of it needs an <ip family='ipv6'> with a prefix of 64 or less`},
		},
		{name: "macvtap", config: oneDisk + `network_interface { macvtap { device = "eth0" } }`},
		{name: "macvtap in a mode", config: oneDisk + `network_interface { macvtap { device = "eth0" mode = "passthrough" } }`},
		{
			name:   "macvtap on nothing, in no mode",
			config: oneDisk + `network_interface { macvtap { mode = "nat" } }`,
			want: []string{
				`config.network_interface[0].macvtap.mode: "nat" is none of bridge, private, vepa, passthrough`,
				"config.network_interface[0].macvtap.device: is missing; the host has br-lan, eth0, virbr0, virbr7",
			},
		},
		{
			name:   "hardware addresses that are none",
			config: oneDisk + `network_interface { mac = "52:54" bridge { name = "virbr0" } } network_interface { mac = "01:00:5e:00:00:01" bridge { name = "virbr0" } }`,
			want: []string{
				`config.network_interface[0].mac: "52:54" is no hardware address of one machine, as in "52:54:00:12:34:56"`,
				`config.network_interface[1].mac: "01:00:5e:00:00:01" is no hardware address of one machine, as in "52:54:00:12:34:56"`,
			},
		},
		{
			name:   "one hardware address twice",
			config: oneDisk + `network_interface { mac = "52:54:00:AA:BB:CC" bridge { name = "virbr0" } } network_interface { mac = "52-54-00-aa-bb-cc" bridge { name = "virbr7" } }`,
			want:   []string{`config.network_interface[1].mac: 52:54:00:aa:bb:cc is another interface's, too; give each its own, or leave mac out`},
		},
		{
			name:   "a hardware address of another VM",
			config: withMAC,
			change: withInterfaceOf("web", vm.Owner{}, false),
			want:   []string{"config.network_interface[0].mac: 52:54:00:aa:bb:cc is VM web's on this host; take another, leave mac out, or remove that VM first"},
		},
		{
			name:   "a hardware address of another VM, beside a device",
			config: oneDisk + `network_interface { mac = "52:54:00:aa:bb:cc" macvtap { device = "eth0" } }`,
			change: withInterfaceOf("web", vm.Owner{}, false),
			want:   []string{"config.network_interface[0].mac: 52:54:00:aa:bb:cc is VM web's on this host; take another, leave mac out, or remove that VM first"},
		},
		{
			name:   "a hardware address of the allocation's other task",
			config: withMAC,
			change: withInterfaceOf("db-1", vm.Owner{Alloc: nomadTask().AllocID, Task: "db", TaskID: "1"}, false),
			want:   []string{"config.network_interface[0].mac: 52:54:00:aa:bb:cc is VM db-1's on this host; take another, leave mac out, or remove that VM first"},
		},
		{
			name:   "a hardware address that an earlier start of the task has",
			config: withMAC,
			change: withInterfaceOf("virt-task-1", owner(nomadTask()), false),
		},
		{
			name:   "one label on two interfaces",
			config: bridge(`name = "virbr0" ports = ["http"]`) + `network_interface { bridge { name = "virbr7" ports = ["http", "ssh"] } }`,
			want:   []string{`config.network_interface[1].bridge.ports[0]: the label "http" is an earlier interface's; leave it out of one of them`},
		},
		{
			name:   "macvtap where VMs are filtered",
			config: oneDisk + `network_interface { macvtap { device = "eth0" } }`,
			change: func(r *request) { r.config.NWFilter = "clean-traffic" },
			want: []string{`config.network_interface[0].macvtap: this client filters what VMs send (nwfilter = "clean-traffic"), ` +
				"which libvirt cannot do for macvtap: use a bridge, or a client without the filter"},
		},
		{
			name:   "ports of the group, and no network",
			config: oneDisk,
			change: func(r *request) { r.nomad.Resources.Ports = nomadTask().Resources.Ports },
			want: []string{"config.network_interface: is missing, and the group publishes ports (http, ssh, http6), " +
				"which cannot lead to a VM without a network: add one, or have the task in a group without ports"},
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
	})
}

const withMAC = oneDisk + `network_interface { mac = "52:54:00:AA:BB:CC" bridge { name = "virbr0" } }`

// withInterfaceOf has a VM have the hardware address of withMAC.
func withInterfaceOf(name string, of vm.Owner, reserved bool) func(*request) {
	return func(r *request) {
		r.others = []domxml.Interface{
			{MAC: "52:54:00:00:00:01", Domain: "other"},
			{MAC: "52:54:00:aa:bb:cc", Domain: name, Owner: of, Reserved: reserved},
		}
	}
}

func TestSeveralInterfacesAreInOrder(t *testing.T) {
	r := newRequest(t, oneDisk+`
		network_interface {
			macvtap {
				device = "eth0"
			}
		}
		network_interface {
			bridge {
				name    = "br-lan"
				address = "10.1.2.3/16"
				gateway = "10.1.0.1"
				dns     = ["9.9.9.9"]
			}
		}
		network_interface {
			mac = "52:54:00:AA:BB:CC"
			bridge {
				name  = "virbr7"
				ports = ["http"]
			}
		}`)
	spec := mustPlan(t, r)
	want := []vm.Interface{
		{Device: "eth0", Mode: "bridge", MAC: macOf(r.nomad.AllocID, r.nomad.Name, 0)},
		{
			Bridge: "br-lan", MAC: macOf(r.nomad.AllocID, r.nomad.Name, 1), Address: netip.MustParsePrefix("10.1.2.3/16"),
			Gateway: netip.MustParseAddr("10.1.0.1"), DNS: []netip.Addr{netip.MustParseAddr("9.9.9.9")},
		},
		{
			Bridge: "virbr7", Network: "lab", MAC: "52:54:00:aa:bb:cc",
			Ports: []vm.Port{{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 8000}},
		},
	}
	same := cmp.Options{
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	}
	if diff := cmp.Diff(want, spec.Interfaces, same); diff != "" {
		t.Errorf("the interfaces (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, spec.Seed.Interfaces, same); diff != "" {
		t.Errorf("what cloud-init is told of (-want +got):\n%s", diff)
	}
	// By itself it finds the only one that there is.
	if told := mustPlan(t, newRequest(t, exampleTask)).Seed.Interfaces; told != nil {
		t.Errorf("cloud-init is told of %v, want nothing", told)
	}
}

func TestReservationsOfOthersAreKept(t *testing.T) {
	r := newRequest(t, oneDisk+`network_interface { mac = "52:54:00:aa:bb:cc" bridge { name = "virbr0" } }`)
	if mustPlan(t, r).Interfaces[0].Reserved {
		t.Error("nothing is reserved, and it is taken to be")
	}
	r.facts.Networks[0].Hosts = []domxml.DHCPHost{{MAC: "52:54:00:AA:BB:CC", Addr: netip.MustParseAddr("192.168.122.9")}}
	if !mustPlan(t, r).Interfaces[0].Reserved {
		t.Error("what somebody else has reserved would be released with the VM")
	}
	// That an earlier start of the task had the address does not make it an
	// administrator's, and what was one stays one.
	for _, kept := range []bool{false, true} {
		withInterfaceOf("virt-task-1", owner(r.nomad), kept)(&r)
		if got := mustPlan(t, r).Interfaces[0].Reserved; got != kept {
			t.Errorf("what an earlier start has found reserved by somebody else (%t) is taken to be so: %t", kept, got)
		}
	}
	// An address that derives from the allocation is nobody else's.
	own := newRequest(t, exampleTask)
	own.facts.Networks[0].Hosts = []domxml.DHCPHost{{MAC: mustPlan(t, own).Interfaces[0].MAC, Addr: netip.MustParseAddr("192.168.122.9")}}
	if mustPlan(t, own).Interfaces[0].Reserved {
		t.Error("what was reserved for the task before would stay for good")
	}
}

func TestFilterKnowsTheGuestsAddress(t *testing.T) {
	r := newRequest(t, oneDisk+`
		network_interface { bridge { name = "virbr0" } }
		network_interface { bridge { name = "br-lan" address = "10.1.2.3/16" } }
		network_interface { bridge { name = "br-lan" } }`)
	for _, i := range mustPlan(t, r).Interfaces {
		if i.Filter != (vm.Filter{}) {
			t.Errorf("without nwfilter the interface on %s has the filter %v", i.Bridge, i.Filter)
		}
	}
	r.config.NWFilter = "clean-traffic"
	want := []vm.Filter{
		{Name: "clean-traffic", DHCPServer: netip.MustParseAddr("192.168.122.1")},
		{Name: "clean-traffic", Address: netip.MustParseAddr("10.1.2.3")},
		{Name: "clean-traffic"},
	}
	for n, i := range mustPlan(t, r).Interfaces {
		if i.Filter != want[n] {
			t.Errorf("interface %d has the filter %v, want %v", n, i.Filter, want[n])
		}
	}
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
		{Label: "negative", Value: 25002, To: -1, HostIP: "127.0.0.2"},
		{Label: "mapped", Value: 25003, To: 22, HostIP: "::ffff:192.0.2.10"},
		{Label: "another task's", Value: 25004, To: 23, HostIP: "192.0.2.10"},
	}
	want := []vm.Port{
		{Label: "mapped", Host: netip.MustParseAddrPort("192.0.2.10:25003"), Guest: 22},
		{Label: "same", Host: netip.MustParseAddrPort("127.0.0.1:25001"), Guest: 25001},
		{Label: "negative", Host: netip.MustParseAddrPort("127.0.0.2:25002"), Guest: 25002},
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
