package driver

import (
	"net/netip"
	"testing"
)

// Whoever asks a guest that has no way back to him has to be another for it.
func TestPortsOfANetworkThatLeadsNowhereSaySo(t *testing.T) {
	for _, leadsOut := range []bool{true, false} {
		r := newRequest(t, oneDisk+`network_interface { bridge { name = "virbr0" ports = ["http"] } }`)
		r.facts.Networks[0].LeadsOut = leadsOut
		all := publications(mustPlan(t, r), []netip.Addr{netip.MustParseAddr("192.168.122.50")})
		if len(all) != 1 || all[0].Isolated == leadsOut {
			t.Errorf("of a network that leads out: %t, these are published: %+v", leadsOut, all)
		}
	}
	r := newRequest(t, oneDisk+`network_interface { bridge { name = "br-lan" ports = ["http"] } }`)
	if mustPlan(t, r).Interfaces[0].Isolated {
		t.Error("a bridge that is none of libvirt's is taken for one that leads nowhere")
	}
}
