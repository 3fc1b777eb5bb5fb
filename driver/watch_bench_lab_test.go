//go:build lab

package driver

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/hashicorp/nomad/plugins/drivers"
	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// These measure what it takes to watch VMs, on libvirt's driver for tests, whose
// VMs take nothing.

// bareWithoutQEMU is another connection to libvirt's driver for tests.
func bareWithoutQEMU(t testing.TB) *libvirt.Libvirt {
	t.Helper()
	bare := libvirt.NewWithDialer(dialers.NewLocal())
	mustDo(t, bare.ConnectToURI(libvirt.TestDefault))
	t.Cleanup(func() { _ = bare.Disconnect() })
	return bare
}

// startMany starts tasks.
func startMany(b *testing.B, d *Driver, cfg *drivers.TaskConfig, many int) []*drivers.TaskConfig {
	b.Helper()
	all := make([]*drivers.TaskConfig, many)
	for i := range all {
		all[i] = numbered(cfg, i)
		_, _, err := d.StartTask(all[i])
		mustDo(b, err)
	}
	return all
}

// BenchmarkExitIsSeen measures the time from another hand's call that destroys a VM
// to the result of WaitTask, beside few other tasks and beside many. libvirt's own
// time for the call is in it. The target is less than 100 ms.
func BenchmarkExitIsSeen(b *testing.B) {
	for _, beside := range []int{0, 500} {
		b.Run(fmt.Sprintf("beside %d", beside), func(b *testing.B) {
			d, _ := driverWithoutQEMU(b)
			bare := bareWithoutQEMU(b)
			cfg := labTask(b, 0, emptyDisk, nil)
			startMany(b, d, cfg, beside)
			var seen, called []time.Duration
			for i := beside; b.Loop(); i++ {
				one := numbered(cfg, i)
				_, _, err := d.StartTask(one)
				mustDo(b, err)
				results, err := d.WaitTask(b.Context(), one.ID)
				mustDo(b, err)
				domain, err := bare.DomainLookupByName(vmOf(one))
				mustDo(b, err)
				began := time.Now()
				mustDo(b, bare.DomainDestroy(domain))
				called = append(called, time.Since(began))
				if result := <-results; result.Signal != 9 {
					b.Fatalf("the task ended with %+v, want signal 9", result)
				}
				seen = append(seen, time.Since(began))
				mustDo(b, d.DestroyTask(one.ID, false))
			}
			b.ReportMetric(median(seen).Seconds()*1000, "seen-ms")
			b.ReportMetric(slices.Max(seen).Seconds()*1000, "seen-max-ms")
			b.ReportMetric(median(called).Seconds()*1000, "libvirt-ms")
		})
	}
}

// BenchmarkWatching measures what the plugin takes to watch tasks whose
// statistics are asked for each second: the calls to libvirt, which are to be as
// many for 500 tasks as for 10, the processor, and the memory. The relay that
// counts the calls and the one who asks are in these, too. An iteration is 7
// seconds: 10 of them see all that is done once a minute.
func BenchmarkWatching(b *testing.B) {
	for _, many := range []int{10, 500} {
		b.Run(fmt.Sprintf("%d tasks", many), func(b *testing.B) { benchmarkWatching(b, many) })
	}
}

func benchmarkWatching(b *testing.B, many int) {
	b.Helper()
	const seconds = 7
	d, relay := driverWithoutQEMU(b)
	cfg := labTask(b, 0, emptyDisk, nil)
	first := startMany(b, d, cfg, 1)[0] // connects
	mustDo(b, d.DestroyTask(first.ID, true))
	without := resident(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var usages <-chan *drivers.TaskResourceUsage
	for i, task := range startMany(b, d, cfg, many) {
		each, err := d.TaskStats(ctx, task.ID, time.Second)
		mustDo(b, err)
		if i == 0 {
			usages = each
			continue
		}
		go func() {
			for range each { // nobody looks at them
			}
		}()
	}
	<-usages
	calls, cpu, began := relay.Calls(), processorTime(b), time.Now()
	for b.Loop() {
		for range seconds {
			<-usages
		}
	}
	took := time.Since(began).Seconds()
	b.ReportMetric(float64(relay.Calls()-calls)/took, "calls/s")
	b.ReportMetric((processorTime(b)-cpu).Seconds()*1000/took, "cpu-ms/s")
	with := resident(b)
	b.ReportMetric(float64(with)/float64(vm.MiB), "MiB")
	b.ReportMetric(float64(with-min(with, without))/float64(vm.KiB)/float64(many), "KiB/task")
}

// processorTime is what this process has had of processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used unix.Rusage
	mustDo(b, unix.Getrusage(unix.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// resident is the memory that this process has.
func resident(b *testing.B) vm.Bytes {
	b.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	mustDo(b, err)
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.ParseUint(strings.Fields(after)[0], 10, 64)
	mustDo(b, err)
	return vm.Bytes(kib) * vm.KiB
}
