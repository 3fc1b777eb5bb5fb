package hypervisor

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/vm"
)

func TestLeasesAreReadAsLibvirtTellsThem(t *testing.T) {
	n := network("10.0.0.2 - 10.0.0.9")
	lease := func(addr string, id ...byte) vm.Lease {
		return vm.Lease{MAC: ours, Addr: netip.MustParseAddr(addr), ClientID: id, Server: n.Gateway.Addr(), Bridge: n.Bridge}
	}
	got := leasesIn(n, ours, []libvirt.NetworkDhcpLease{
		{Ipaddr: "10.0.0.2"},
		{Ipaddr: "10.0.0.3", Clientid: libvirt.OptString{"01:52:54:00:ab:cd:ef"}},
		{Ipaddr: "10.0.0.4", Clientid: libvirt.OptString{"ff:b5:5e:67:ff:00:02"}},
		{Ipaddr: "10.0.0.5", Clientid: libvirt.OptString{"*"}},
		{Ipaddr: "fd00::5", Clientid: libvirt.OptString{"00:01"}},
	})
	want := []vm.Lease{
		lease("10.0.0.2"),
		lease("10.0.0.3", 1, 0x52, 0x54, 0, 0xab, 0xcd, 0xef),
		lease("10.0.0.4", 0xff, 0xb5, 0x5e, 0x67, 0xff, 0, 2),
		lease("10.0.0.5"),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the leases are\n%+v, want\n%+v", got, want)
	}
}
