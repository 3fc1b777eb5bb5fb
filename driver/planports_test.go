package driver

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/bridge"
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

func TestPortsOfAddressesThatAreNoMachinesAreRefused(t *testing.T) {
	for _, address := range []string{"::1", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "eth0"} {
		r := onDualNetwork(t, `ports = ["http"]`)
		(*r.nomad.Resources.Ports)[0].HostIP = address
		want := problems{fmt.Sprintf(`config.network_interface[0].bridge.ports[0]: Nomad gave port "http" the address %q, `+
			"and no port of a VM can be published there: take a host_network of other addresses", address)}
		_, got := plan(r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the problems (-want +got):\n%s", diff)
		}
	}
}

// withPortOf has a device be a port of a bridge.
func withPortOf(device, of string) func(*request) {
	return func(r *request) {
		at := slices.IndexFunc(r.links, func(l bridge.Link) bool { return l.Name == device })
		r.links[at].Bridge = of
	}
}

// libvirt refuses it when the disks are made already.
func TestDeviceOfABridgeTakesNoMacvtap(t *testing.T) {
	r := newRequest(t, oneDisk+`network_interface { macvtap { device = "eth0" } }`)
	withPortOf("eth0", "br-lan")(&r)
	want := problems{`config.network_interface[0].macvtap.device: "eth0" is a port of bridge "br-lan", and takes no macvtap beside that: ` +
		`put the interface on the bridge, by bridge { name = "br-lan" }`}
	_, got := plan(r)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the problems (-want +got):\n%s", diff)
	}
}
