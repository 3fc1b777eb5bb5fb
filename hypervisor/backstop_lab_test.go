//go:build lab

package hypervisor

import (
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// What libvirt tells of all domains at once has to be what it tells of each.
func TestLookAtAllWakesThoseWhoHaveMissedSomething(t *testing.T) {
	for uri, name := range map[string]string{testDriver: "test", system: "hyp-backstop"} {
		t.Run(name, func(t *testing.T) {
			h := connected(t, uri)
			if uri == system {
				started(t, h, name)
			}
			must(t, h.Suspend(t.Context(), name))
			is, err := h.state(t.Context(), name)
			must(t, err)
			idle, late := make(chan struct{}, 1), make(chan struct{}, 1)
			defer h.watch(name, idle)()
			defer h.watch(name, late)()
			// Events of what was done before may come at first.
			eventually(t, 5*time.Second, "who takes it to run is woken alone", func() bool {
				for _, news := range []chan struct{}{idle, late} {
					select {
					case <-news:
					default:
					}
				}
				h.sees(idle, is, nil)
				h.sees(late, domainState{libvirt.DomainRunning, 0}, nil)
				h.lookAtAll(t.Context())
				return len(idle) == 0 && len(late) == 1
			})
		})
	}
}
