//go:build lab

package hypervisor

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// end is what WaitEnd returned, and when.
type end struct {
	exit vm.Exit
	err  error
	at   time.Time
}

// watchIdly leaves a guest to itself.
func watchIdly(context.Context, Guest) time.Duration { return 0 }

// waiting calls WaitEnd, and returns when it has nothing to do but wait.
func waiting(ctx context.Context, t *testing.T, h *Host, name string) <-chan end {
	t.Helper()
	ended := make(chan end, 1)
	go func() {
		exit, err := h.WaitEnd(ctx, name, watchIdly)
		ended <- end{exit, err, time.Now()}
	}()
	eventually(t, 5*time.Second, "WaitEnd waits for news", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.watches) > 0
	})
	return ended
}

func mustEnd(t *testing.T, ended <-chan end, since time.Time, code int) {
	t.Helper()
	select {
	case e := <-ended:
		must(t, e.err)
		if took := e.at.Sub(since); took > lookEvery/4 { // by an event, not by a look
			t.Errorf("it is told %s after the end", took)
		}
		if e.exit.Code != code {
			t.Errorf("code %d (%v), want %d", e.exit.Code, e.exit.Err, code)
		}
	case <-time.After(lookEvery / 2):
		t.Fatalf("WaitEnd has not returned %s after the end", lookEvery/2)
	}
}

func TestWaitEndTellsAtOnce(t *testing.T) {
	h := connected(t, system)
	for _, test := range []struct {
		name string
		end  func(name string)
		code int
	}{
		{"virsh destroy", func(name string) { virsh(t, "destroy", name) }, exitKilled},
		{"Destroy", func(name string) { must(t, h.Destroy(t.Context(), name)) }, exitKilled},
		{"QEMU is killed", func(name string) {
			pid, err := os.ReadFile(filepath.Join("/run/libvirt/qemu", name+".pid"))
			must(t, err)
			must(t, exec.Command("kill", "-KILL", strings.TrimSpace(string(pid))).Run())
		}, exitFailed},
		{"the domain is forgotten too", func(name string) {
			virsh(t, "undefine", name)
			virsh(t, "destroy", name)
		}, exitKilled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := started(t, h, "hyp-end")
			ended := waiting(t.Context(), t, h, s.Name)
			test.end(s.Name)
			mustEnd(t, ended, time.Now(), test.code)

			// Asked once it is over, it says the same.
			exit, err := h.WaitEnd(within(t, 5*time.Second), s.Name, watchIdly)
			if err != nil || exit.Code != test.code {
				t.Errorf("afterwards code %d, %v, want %d", exit.Code, err, test.code)
			}
		})
	}
}

func TestWaitEndEndsWithItsContext(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-context")
	ctx, cancel := context.WithCancel(t.Context())
	ended := waiting(ctx, t, h, s.Name)
	cancel()
	if e := <-ended; !errors.Is(e.err, context.Canceled) {
		t.Errorf("the error is %v, want the context's", e.err)
	}
	mustRun(t, h, s.Name, true)
}

func TestWaitEndOutlastsLibvirt(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-restart")
	ended := waiting(t.Context(), t, h, s.Name)

	t.Cleanup(func() { lab(t, "libvirt-start") })
	lab(t, "libvirt-stop")
	eventually(t, 5*time.Second, "the loss is noticed", func() bool { return h.Health(t.Context()) != nil })
	lab(t, "libvirt-start")
	eventually(t, 4*reconnectEvery, "libvirt answers again", func() bool { return h.Health(t.Context()) == nil })
	mustRun(t, h, s.Name, true)
	select {
	case e := <-ended:
		t.Fatalf("libvirt's absence is taken for the end of the VM: %+v", e)
	default:
	}
	virsh(t, "destroy", s.Name)
	mustEnd(t, ended, time.Now(), exitKilled)
}
