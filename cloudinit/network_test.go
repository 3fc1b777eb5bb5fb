package cloudinit

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	"nomad-driver-virt/vm"
)

func TestNetworkConfig(t *testing.T) {
	dns := []netip.Addr{netip.MustParseAddr("9.9.9.9")}
	for _, test := range []struct {
		name       string
		interfaces []vm.Interface
		want       string
	}{
		{"nothing to be told of", nil, ""},
		{
			"an address", []vm.Interface{{
				Bridge: "br0", MAC: "52:54:00:00:00:01", Address: netip.MustParsePrefix("10.1.2.3/16"),
				Gateway: netip.MustParseAddr("10.1.0.1"), DNS: dns,
			}},
			`{"version":2,"ethernets":{"interface0":{"match":{"macaddress":"52:54:00:00:00:01"},"dhcp4":false,` +
				`"addresses":["10.1.2.3/16"],"routes":[{"to":"0.0.0.0/0","via":"10.1.0.1"}],"nameservers":{"addresses":["9.9.9.9"]}}}}`,
		},
		{
			"several", []vm.Interface{{Bridge: "virbr0", Network: "default", MAC: "52:54:00:00:00:01"}, {Device: "eth0", MAC: "52:54:00:00:00:02"}},
			`{"version":2,"ethernets":{"interface0":{"match":{"macaddress":"52:54:00:00:00:01"},"dhcp4":true},` +
				`"interface1":{"match":{"macaddress":"52:54:00:00:00:02"},"dhcp4":true,"optional":true}}}`,
		},
		{
			"an address of each version", []vm.Interface{{
				Bridge: "virbr0", Network: "dual", MAC: "52:54:00:00:00:01",
				Address6: netip.MustParsePrefix("fd42::5/64"), Gateway6: netip.MustParseAddr("fd42::1"),
			}},
			`{"version":2,"ethernets":{"interface0":{"match":{"macaddress":"52:54:00:00:00:01"},"dhcp4":true,` +
				`"addresses":["fd42::5/64"],"routes":[{"to":"::/0","via":"fd42::1"}]}}}`,
		},
		{
			"one of each version without DHCP", []vm.Interface{{
				Bridge: "virbr0", Network: "dual", MAC: "52:54:00:00:00:01",
				Address: netip.MustParsePrefix("10.1.2.3/16"), Gateway: netip.MustParseAddr("10.1.0.1"),
				Address6: netip.MustParsePrefix("fd42::5/64"), Gateway6: netip.MustParseAddr("fd42::1"),
			}},
			`{"version":2,"ethernets":{"interface0":{"match":{"macaddress":"52:54:00:00:00:01"},"dhcp4":false,` +
				`"addresses":["10.1.2.3/16","fd42::5/64"],"routes":[{"to":"0.0.0.0/0","via":"10.1.0.1"},{"to":"::/0","via":"fd42::1"}]}}}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			files, err := Documents(vm.Seed{Interfaces: test.interfaces})
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if files.NetworkConfig != nil {
				if err := json.Compact(&got, files.NetworkConfig); err != nil {
					t.Fatal(err)
				}
			}
			if got.String() != test.want {
				t.Errorf("\n%s\nwant\n%s", &got, test.want)
			}
		})
	}
}
