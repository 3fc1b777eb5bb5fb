package driver

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/vm"
)

func TestDriverNetworkIsThatOfTheFirstBridge(t *testing.T) {
	first, second := netip.MustParseAddr("192.168.122.5"), netip.MustParseAddr("10.0.7.5")
	for _, test := range []struct {
		name       string
		interfaces []vm.Interface
		addrs      []netip.Addr
		want       *drivers.DriverNetwork
	}{
		{name: "no interface"},
		{
			name:       "no ports",
			interfaces: []vm.Interface{{Bridge: "virbr0"}},
			addrs:      []netip.Addr{first},
			want:       &drivers.DriverNetwork{IP: "192.168.122.5", PortMap: map[string]int{}},
		},
		{
			name: "ports of every interface, by the number in the guest",
			interfaces: []vm.Interface{
				{Bridge: "virbr0", Ports: []vm.Port{{Label: "http", Guest: 8000}, {Label: "ssh", Guest: 22}}},
				{Bridge: "virbr7", Ports: []vm.Port{{Label: "db", Guest: 5432}}},
			},
			addrs: []netip.Addr{first, second},
			want: &drivers.DriverNetwork{
				IP:      "192.168.122.5",
				PortMap: map[string]int{"http": 8000, "ssh": 22, "db": 5432},
			},
		},
		{
			name:       "the first that is on a bridge",
			interfaces: []vm.Interface{{Device: "eth0"}, {Bridge: "virbr7"}},
			addrs:      []netip.Addr{{}, second},
			want:       &drivers.DriverNetwork{IP: "10.0.7.5", PortMap: map[string]int{}},
		},
		{name: "macvtap alone", interfaces: []vm.Interface{{Device: "eth0"}}, addrs: []netip.Addr{{}}},
		{name: "an address that is not known", interfaces: []vm.Interface{{Bridge: "br0"}, {Bridge: "virbr7"}}, addrs: []netip.Addr{{}, second}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := driverNetwork(&vm.Spec{Interfaces: test.interfaces}, test.addrs)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the network (-want +got); AutoAdvertise has to be off:\n%s", diff)
			}
		})
	}
}
