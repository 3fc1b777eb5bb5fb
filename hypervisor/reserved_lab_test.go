//go:build lab

package hypervisor

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"nomad-driver-virt/domxml"
)

// What is reserved from a network's next start on is not the driver's to release.
func TestFactsTellWhatIsReservedFromTheNextStartOn(t *testing.T) {
	h := connected(t, system)
	want := domxml.DHCPHost{MAC: "52:54:00:77:02:02", Addr: netip.MustParseAddr("192.168.122.212")}
	host, err := domxml.Reservation(want)
	must(t, err)
	virsh(t, "net-update", "default", "add", "ip-dhcp-host", host, "--config")
	t.Cleanup(func() {
		for _, where := range []string{"--live", "--config"} { // wherever it is
			_ = exec.Command("virsh", "-q", "net-update", "default", "delete", "ip-dhcp-host", host, where).Run()
		}
	})
	mustTell := func(when string) {
		t.Helper()
		facts, err := h.Facts(t.Context(), "", "")
		must(t, err)
		var told []domxml.DHCPHost
		for _, n := range facts.Networks {
			if n.Name == "default" {
				told = slices.DeleteFunc(slices.Clone(n.Hosts), func(of domxml.DHCPHost) bool { return of.MAC != want.MAC })
			}
		}
		if !slices.Equal(told, []domxml.DHCPHost{want}) {
			t.Errorf("%s, what is reserved is %v, want %v, once", when, told, want)
		}
	}
	mustTell("when somebody has reserved it")
	if addr, err := reserve(t, h, "default", want.MAC); err != nil || addr != want.Addr {
		t.Errorf("the address is %s, %v, want %s", addr, err, want.Addr)
	}
	mustTell("when it is used")
}
