package driver

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
)

func TestWhatWasReservedForATaskIsKnownWithoutItsDomain(t *testing.T) {
	cfg := nomadTask()
	networks := []domxml.Network{{Name: "default", Bridge: "virbr0"}, {Name: "other", Bridge: "virbr1"}}
	task := TaskConfig{NetworkInterfaces: []NetworkInterface{
		{Bridge: &Bridge{Name: "br-lan"}},
		{Bridge: &Bridge{Name: "virbr1"}},
		{Macvtap: &Macvtap{}},
		{MAC: "52:54:00:12:34:56", Bridge: &Bridge{Name: "virbr0"}},
		{Bridge: &Bridge{Name: "virbr0"}},
	}}
	want := []string{"other " + macOf(cfg.AllocID, cfg.Name, 1), "default " + macOf(cfg.AllocID, cfg.Name, 4)}
	var got []string
	for _, i := range derivedInterfaces(networks, task, cfg) {
		got = append(got, i.Network+" "+i.MAC)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the interfaces (-want +got):\n%s", diff)
	}
}
