package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// deafHost has guests that shut down when their agents are asked to, of which it asks
// some at once, and that do not hear their power buttons.
type deafHost struct {
	domains
	began  time.Time
	boots  time.Duration // until a guest's agent is there
	takes  time.Duration // until a guest has shut down
	asking chan struct{} // holds a value for each agent that is asked

	mu      sync.Mutex // guards the fields below
	tasks   map[string]*task
	pressed int
}

func (h *deafHost) AskAgent(_ context.Context, name string) error {
	select {
	case h.asking <- struct{}{}:
		defer func() { <-h.asking }()
	default:
		return hypervisor.ErrAgentsBusy
	}
	if time.Since(h.began) < h.boots {
		return errors.New("the agent is not connected")
	}
	time.Sleep(h.takes) // of the test's own clock
	h.end(name, vm.Exit{})
	return nil
}

func (h *deafHost) PressPowerButton(context.Context, string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pressed++
	return nil
}

func (h *deafHost) Destroy(_ context.Context, name string) error {
	h.end(name, vm.Exit{Signal: 9})
	return nil
}

func (h *deafHost) Resume(context.Context, string) error { return nil }

func (h *deafHost) end(name string, exit vm.Exit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := h.tasks[name]
	t.mu.Lock()
	defer t.mu.Unlock()
	t.exit = exit
	close(t.ended)
}

func TestAgentIsAskedUntilItCanBe(t *testing.T) {
	for name, test := range map[string]struct {
		guests int
		boots  time.Duration
	}{
		"of one of many guests":    {guests: 20},
		"of a guest that boots":    {guests: 1, boots: 12 * time.Second},
		"of many guests that boot": {guests: 20, boots: 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := &deafHost{
					began: time.Now(), boots: test.boots, takes: 3 * time.Second,
					asking: make(chan struct{}, hypervisor.MostAgents), tasks: make(map[string]*task),
				}
				for i := range test.guests {
					name := fmt.Sprint("vm-", i)
					host.tasks[name] = newTask(&drivers.TaskConfig{}, name, time.Now(), nil)
				}
				var all sync.WaitGroup
				for name, task := range host.tasks {
					all.Go(func() {
						how, err := task.stop(t.Context(), host, time.Minute, "1m")
						if err != nil || !strings.Contains(how, "after its agent was asked to") {
							t.Errorf("%s is stopped so: %q, %v", name, how, err)
						}
					})
				}
				all.Wait()
			})
		})
	}
}

func TestPowerButtonIsPressedWhileNoAgentIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &deafHost{
			began: time.Now(), boots: time.Hour, asking: make(chan struct{}, 1),
			tasks: map[string]*task{"vm": newTask(&drivers.TaskConfig{}, "vm", time.Now(), nil)},
		}
		how, err := host.tasks["vm"].stop(t.Context(), host, 21*time.Second, "21s")
		if err != nil || !strings.Contains(how, "did not shut down within 21s") {
			t.Errorf("it is stopped so: %q, %v", how, err)
		}
		if host.pressed != 5 {
			t.Errorf("the power button was pressed %d times in 21 s, want at once and every %s", host.pressed, pressEvery)
		}
	})
}
