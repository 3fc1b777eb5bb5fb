package domxml

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseNetwork(t *testing.T) {
	gateway := netip.MustParsePrefix("192.168.122.1/24")
	others := []netip.Prefix{netip.MustParsePrefix("172.16.0.1/25")}
	dhcp := []AddressRange{{netip.MustParseAddr("192.168.122.2"), netip.MustParseAddr("192.168.122.254")}}
	for _, test := range []struct {
		name, document string
		want           Network
	}{
		{"libvirt's default network, running", `
			<network connections='1'>
			  <name>default</name>
			  <uuid>1bda3162-b362-4faf-9f48-5013da31ff39</uuid>
			  <forward mode='nat'><nat><port start='1024' end='65535'/></nat></forward>
			  <bridge name='virbr0' stp='on' delay='0'/>
			  <mac address='52:54:00:e7:ca:c0'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'>
			    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
			  </ip>
			</network>`,
			Network{Name: "default", Bridge: "virbr0", Gateway: gateway, LeadsOut: true, Ranges: dhcp},
		},
		{"a prefix length, reserved addresses, two ranges", `
			<network>
			  <name>lan</name>
			  <bridge name='virbr1'/>
			  <ip family='ipv4' address='10.0.0.1' prefix='20'>
			    <dhcp>
			      <range start='10.0.0.10' end='10.0.0.19'/>
			      <range start='10.0.1.0' end='10.0.1.255'/>
			      <host mac='52:54:00:aa:bb:cc' name='web' ip='10.0.0.12'/>
			      <host mac='52:54:00:aa:bb:dd' ip='10.0.0.200'><lease expiry='1' unit='hours'/></host>
			    </dhcp>
			  </ip>
			</network>`,
			Network{
				Name: "lan", Bridge: "virbr1", Gateway: netip.MustParsePrefix("10.0.0.1/20"),
				Ranges: []AddressRange{
					{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("10.0.0.19")},
					{netip.MustParseAddr("10.0.1.0"), netip.MustParseAddr("10.0.1.255")},
				},
				Hosts: []DHCPHost{
					{"52:54:00:aa:bb:cc", netip.MustParseAddr("10.0.0.12")},
					{"52:54:00:aa:bb:dd", netip.MustParseAddr("10.0.0.200")},
				},
			},
		},
		{"IPv6 too, whose reservations are not by hardware address", `
			<network>
			  <name>dual</name>
			  <bridge name='virbr2'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'>
			    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
			  </ip>
			  <ip family='ipv6' address='2001:db8:1::1' prefix='64'>
			    <dhcp><range start='2001:db8:1::10' end='2001:db8:1::ff'/><host name='web' ip='2001:db8:1::20'/></dhcp>
			  </ip>
			</network>`,
			Network{Name: "dual", Bridge: "virbr2", Gateway: gateway, Gateway6: netip.MustParsePrefix("2001:db8:1::1/64"), Ranges: dhcp},
		},
		{"two IPv6 addresses, without a prefix or DHCP", `
			<network>
			  <name>six</name>
			  <bridge name='virbr2'/>
			  <ip family='ipv6' address='fe80::1' prefix='64'/>
			  <ip family='ipv6' address='2001:db8:1::1'/>
			  <ip family='ipv6' address='2001:db8:2::1' prefix='64'/>
			</network>`,
			Network{Name: "six", Bridge: "virbr2", Gateway6: netip.MustParsePrefix("2001:db8:1::1/64")},
		},
		{"DHCP on the second of two addresses", `
			<network>
			  <name>two</name>
			  <bridge name='virbr3'/>
			  <ip address='172.16.0.1' netmask='255.255.255.128'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'>
			    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
			  </ip>
			</network>`,
			Network{Name: "two", Bridge: "virbr3", Gateway: gateway, Others: others, Ranges: dhcp},
		},
		{"DHCP on the first of two addresses", `
			<network>
			  <name>two</name>
			  <bridge name='virbr3'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'>
			    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp>
			  </ip>
			  <ip address='172.16.0.1' netmask='255.255.255.128'/>
			</network>`,
			Network{Name: "two", Bridge: "virbr3", Gateway: gateway, Others: others, Ranges: dhcp},
		},
		{"without DHCP", `
			<network>
			  <name>static</name>
			  <bridge name='virbr4'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'/>
			</network>`,
			Network{Name: "static", Bridge: "virbr4", Gateway: gateway},
		},
		{"two addresses without DHCP", `
			<network>
			  <name>static</name>
			  <bridge name='virbr4'/>
			  <ip address='192.168.122.1' netmask='255.255.255.0'/>
			  <ip address='172.16.0.1' netmask='255.255.255.128'/>
			</network>`,
			Network{Name: "static", Bridge: "virbr4", Gateway: gateway, Others: others},
		},
		{
			"a bridge of the host's, where libvirt has no say",
			`<network><name>host</name><forward mode='bridge'/><bridge name='br0'/></network>`,
			Network{Name: "host", Bridge: "br0", LeadsOut: true},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseNetwork(test.document)
			if err != nil {
				t.Fatal(err)
			}
			same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
			samePrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			if diff := cmp.Diff(test.want, got, same, samePrefix); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if n, err := ParseNetwork("network"); err == nil {
		t.Errorf("what is no XML was read as %+v", n)
	}
}

func TestReservation(t *testing.T) {
	document, err := Reservation(DHCPHost{"52:54:00:12:34:56", netip.MustParseAddr("192.168.122.51")})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "reservation.xml", document)
}
