package driver

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

func TestUsageIsOfTheTimeSinceTheMeasurementBefore(t *testing.T) {
	began := time.Now()
	at := func(after, cpu, user, system time.Duration) hypervisor.Stats {
		return hypervisor.Stats{At: began.Add(after), CPU: cpu, User: user, System: system}
	}
	all := []string{"Percent", "User Mode", "System Mode", "Total Ticks"}
	u := usage{compute: cpustats.Compute{TotalCompute: 4000, NumCores: 2}}
	for _, step := range []struct {
		name string
		now  hypervisor.Stats
		want drivers.CpuStats
	}{
		{"the first tells of no time", at(0, 5*time.Second, 3*time.Second, time.Second), drivers.CpuStats{Measured: all}},
		{
			"half of one core", at(2*time.Second, 6*time.Second, 3500*time.Millisecond, 1250*time.Millisecond),
			drivers.CpuStats{Percent: 50, UserMode: 25, SystemMode: 12.5, TotalTicks: 1000, Measured: all},
		},
		{
			"the same measurement", at(2*time.Second, 6*time.Second, 3500*time.Millisecond, 1250*time.Millisecond),
			drivers.CpuStats{Percent: 50, UserMode: 25, SystemMode: 12.5, TotalTicks: 1000, Measured: all},
		},
		{
			"two cores, without the parts", at(3*time.Second, 8*time.Second, 0, 0),
			drivers.CpuStats{Percent: 200, TotalTicks: 4000, Measured: []string{"Percent", "Total Ticks"}},
		},
		{"another QEMU", at(4*time.Second, time.Second, time.Second, 0), drivers.CpuStats{Measured: all}},
		{"one that tells nothing", at(5*time.Second, 0, 0, 0), drivers.CpuStats{}},
	} {
		got := u.of(step.now)
		if diff := cmp.Diff(step.want, *got.ResourceUsage.CpuStats); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if got.Timestamp != step.now.At.UnixNano() || got.ResourceUsage.MemoryStats == nil {
			t.Errorf("%s: it is %+v, want the time of the measurement, and memory", step.name, got)
		}
	}
}

func TestMemoryIsThatOfQEMUAndWhatTheGuestSays(t *testing.T) {
	for name, test := range map[string]struct {
		now  hypervisor.Stats
		want drivers.MemoryStats
	}{
		"nothing":            {hypervisor.Stats{}, drivers.MemoryStats{}},
		"a guest that boots": {hypervisor.Stats{RSS: vm.GiB}, drivers.MemoryStats{RSS: 1 << 30, Measured: []string{"RSS"}}},
		"a guest that tells": {
			hypervisor.Stats{RSS: vm.GiB, Guest: &hypervisor.GuestMemory{Available: 900, Usable: 600, Caches: 50}},
			drivers.MemoryStats{RSS: 1 << 30, Usage: 300, Cache: 50, Measured: []string{"RSS", "Usage", "Cache"}},
		},
	} {
		if diff := cmp.Diff(test.want, memoryOf(test.now)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// libvirt is asked once in each interval, whoever wants to know, and at whatever
// moment.
func TestStatisticsOfAllAreReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := &sampler{read: func(context.Context) (map[string]hypervisor.Stats, error) {
			asked++
			time.Sleep(50 * time.Millisecond) // of the test's own clock
			return map[string]hypervisor.Stats{"web": {RSS: vm.Bytes(asked)}}, nil
		}}
		const watchers, seconds = 500, 10
		var all sync.WaitGroup
		for i := range watchers {
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				for range seconds {
					if _, is := s.of(t.Context(), "web", time.Second); !is {
						t.Error("there are none")
					}
					time.Sleep(time.Second)
				}
			})
		}
		all.Wait()
		if asked > seconds+2 {
			t.Errorf("libvirt was asked %d times in %d seconds, want once in each", asked, seconds)
		}
		if _, is := s.of(t.Context(), "gone", time.Second); is {
			t.Error("a VM that is gone has statistics")
		}
		s.read = func(context.Context) (map[string]hypervisor.Stats, error) { return nil, errors.New("away") }
		time.Sleep(time.Second)
		if _, is := s.of(t.Context(), "web", time.Second); is {
			t.Error("while libvirt is away there are statistics")
		}
	})
}
