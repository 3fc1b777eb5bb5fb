package hypervisor

import (
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestStatisticsAreReadInLibvirtsUnits(t *testing.T) {
	at := time.Now()
	used := []libvirt.TypedParam{
		{Field: "cpu.time", Value: *libvirt.NewTypedParamValueUllong(3_000_000_000)},
		{Field: "cpu.user", Value: *libvirt.NewTypedParamValueUllong(2_000_000_000)},
		{Field: "cpu.system", Value: *libvirt.NewTypedParamValueUllong(1_000_000_000)},
		{Field: "cpu.haltpoll.success.time", Value: *libvirt.NewTypedParamValueUllong(1)},
		{Field: "balloon.rss", Value: *libvirt.NewTypedParamValueUllong(1024)},
	}
	want := Stats{At: at, CPU: 3 * time.Second, User: 2 * time.Second, System: time.Second, RSS: vm.MiB}
	guest := func(fields ...string) []libvirt.TypedParam {
		all := append([]libvirt.TypedParam{}, used...)
		for i, field := range fields {
			all = append(all, libvirt.TypedParam{Field: field, Value: *libvirt.NewTypedParamValueUllong(uint64(4096 >> i))})
		}
		return all
	}
	for _, test := range []struct {
		name   string
		params []libvirt.TypedParam
		guest  *GuestMemory
	}{
		{"a guest that says nothing", used, nil},
		{
			"a guest that says all", guest("balloon.available", "balloon.usable", "balloon.disk_caches"),
			&GuestMemory{Available: 4 * vm.MiB, Usable: 2 * vm.MiB, Caches: vm.MiB},
		},
		{"an old one", guest("balloon.available", "balloon.unused"), &GuestMemory{Available: 4 * vm.MiB, Usable: 2 * vm.MiB}},
		{"one that makes no sense", guest("balloon.usable", "balloon.available"), &GuestMemory{Available: 2 * vm.MiB, Usable: 2 * vm.MiB}},
		{"one that says too little", guest("balloon.usable"), nil},
	} {
		w := want
		w.Guest = test.guest
		if diff := cmp.Diff(w, statsOf(test.params, at)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
	if diff := cmp.Diff(Stats{At: at}, statsOf(nil, at)); diff != "" {
		t.Errorf("nothing (-want +got):\n%s", diff)
	}
}

// A kernel whose balloon goes down by itself counts what it holds as its own.
func TestWhatTheBalloonHoldsIsNotTheGuests(t *testing.T) {
	var params []libvirt.TypedParam
	for field, kib := range map[string]uint64{
		"balloon.maximum": 2048 << 10, "balloon.current": 512 << 10, "balloon.available": 2000 << 10, "balloon.usable": 400 << 10,
	} {
		params = append(params, libvirt.TypedParam{Field: field, Value: *libvirt.NewTypedParamValueUllong(kib)})
	}
	want := &GuestMemory{Available: 464 * vm.MiB, Usable: 400 * vm.MiB}
	if diff := cmp.Diff(want, statsOf(params, time.Now()).Guest); diff != "" {
		t.Errorf("the guest's memory (-want +got):\n%s", diff)
	}
}
