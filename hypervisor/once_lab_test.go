//go:build lab

package hypervisor

import (
	"errors"
	"sync"
	"testing"
)

func TestThoseWhoAskAndLeaveDoLibvirtNoHarm(t *testing.T) {
	watch := connected(t, system) // is told if libvirt ends
	changed := watch.Changed()
	machine(t, watch, "hyp-once")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				h, err := New(system)
				if err != nil {
					t.Error(err)
					return
				}
				leave, err := h.Once(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := h.VMs(t.Context()); err != nil {
					t.Error(err)
				}
				leave()
				if _, err := h.VMs(t.Context()); !errors.Is(err, errLeft) {
					t.Errorf("who has left is told %v, want %v", err, errLeft)
				}
			}
		})
	}
	all.Wait()
	select {
	case <-changed:
		t.Error("libvirt has ended meanwhile, or the connection to it")
	default:
	}
}
