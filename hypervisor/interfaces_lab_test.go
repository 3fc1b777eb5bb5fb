//go:build lab

package hypervisor

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
)

// Others' domains count as the driver's do, also one that somebody has undefined while
// it runs.
func TestInterfacesOfOthersAreListed(t *testing.T) {
	h := connected(t, system)
	want := []domxml.Interface{{MAC: "52:54:00:77:03:01", Domain: "hyp-nic-off"}, {MAC: "52:54:00:77:03:02", Domain: "hyp-nic-runs"}}
	for _, i := range want {
		defineForeign(t, i.Domain, "<interface type='network'><mac address='"+i.MAC+"'/><source network='default'/></interface>")
	}
	virsh(t, "start", "hyp-nic-runs")
	virsh(t, "undefine", "hyp-nic-runs")
	s := machine(t, h, "hyp-nic-own")
	must(t, h.Define(t.Context(), s))
	for _, i := range s.Interfaces {
		want = append(want, domxml.Interface{MAC: i.MAC, Domain: s.Name, Owner: s.Owner})
	}
	got, err := h.Interfaces(t.Context())
	must(t, err)
	got = slices.DeleteFunc(got, func(i domxml.Interface) bool { return !strings.HasPrefix(i.Domain, "hyp-nic-") })
	byMAC := func(a, b domxml.Interface) int { return strings.Compare(a.MAC, b.MAC) }
	slices.SortFunc(got, byMAC)
	slices.SortFunc(want, byMAC)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
