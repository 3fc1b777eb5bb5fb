package driver

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/vm"
)

// The domain of a VM that an earlier version made does not say what it publishes.
func TestPortsOfEarlierVersionsAreKnown(t *testing.T) {
	ports := &structs.AllocatedPorts{
		{Label: "http", Value: 25000, To: 8000, HostIP: "192.0.2.10"},
		{Label: "another task's", Value: 25001, To: 8001, HostIP: "192.0.2.10"},
		{Label: "ssh", Value: 25002, HostIP: "127.0.0.1"},
	}
	network := &drivers.DriverNetwork{IP: "192.168.122.5", PortMap: map[string]int{"http": 8000, "ssh": 22}}
	taps := []vm.Tap{{Device: "vnet0", Bridge: "virbr0"}}
	of := func(p *structs.AllocatedPorts) *drivers.TaskConfig {
		return &drivers.TaskConfig{Resources: &drivers.Resources{Ports: p}}
	}
	want := []vm.Publication{{
		VM: "web", Bridge: "virbr0", Guest: netip.MustParseAddr("192.168.122.5"),
		Ports: []vm.Port{
			{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 8000},
			{Label: "ssh", Host: netip.MustParseAddrPort("127.0.0.1:25002"), Guest: 22},
		},
	}}
	for _, test := range []struct {
		name    string
		cfg     *drivers.TaskConfig
		network *drivers.DriverNetwork
		taps    []vm.Tap
		want    []vm.Publication
	}{
		{"all is known", of(ports), network, taps, want},
		{"it has no network", of(ports), nil, taps, nil},
		{"it has no interface", of(ports), network, nil, nil},
		{"it publishes nothing", of(ports), &drivers.DriverNetwork{IP: "192.168.122.5"}, taps, nil},
		{"the group has no ports", of(nil), network, taps, nil},
		{"nothing is known of its resources", &drivers.TaskConfig{}, network, taps, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := publishedBefore(test.cfg, "web", test.network, test.taps)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
