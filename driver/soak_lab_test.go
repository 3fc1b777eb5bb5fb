//go:build lab

package driver

import (
	"os"
	"runtime"
	"testing"

	"nomad-driver-virt/vm"
)

// held is what a process holds that can be forgotten to be given back.
type held struct{ goroutines, files int }

func holds(t *testing.T) held {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	mustDo(t, err)
	return held{runtime.NumGoroutine(), len(files)}
}

// heap is what is in use of it.
func heap() vm.Bytes {
	for range 2 { // what has a finalizer goes with the second
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return vm.Bytes(m.HeapAlloc)
}

// A plugin lives for months: tasks that were are to cost nothing. The heap's size
// varies by itself, by a tenth of what is allowed here, 0.7 KiB for each.
func TestNothingIsHeldOfTasksThatWere(t *testing.T) {
	const (
		first, all = 10, 200
		slack      = 128 * vm.KiB
	)
	d, _ := driverWithoutQEMU(t)
	cfg := labTask(t, 0, emptyDisk, nil)
	live := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			mustDo(t, liveOnce(d, numbered(cfg, i)))
		}
	}
	live(0, first)
	before, heapBefore := holds(t), heap()
	live(first, all)
	var after held
	eventually(t, "the goroutines and files of the last task have gone", func() bool {
		after = holds(t)
		return after.goroutines <= before.goroutines && after.files <= before.files
	})
	heapAfter := heap()
	t.Logf("after %d tasks %+v and %d bytes, after %d %+v and %d bytes", first, before, heapBefore, all, after, heapAfter)
	if heapAfter > heapBefore+slack {
		t.Errorf("%d tasks leave %d bytes on the heap, want no more than %d", all-first, heapAfter-heapBefore, slack)
	}
}
