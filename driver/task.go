package driver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	// pressEvery is how often a guest is asked to shut down: one that is booting
	// does not hear the first time.
	pressEvery = 5 * time.Second
	// destroyTimeout bounds the wait for a VM's end after it was destroyed.
	destroyTimeout = 30 * time.Second
)

// task is one start of a Nomad task whose VM was started.
type task struct {
	cfg     *drivers.TaskConfig
	vm      string
	started time.Time
	network *drivers.DriverNetwork

	ended chan struct{} // closed when exit is set

	mu        sync.Mutex       // guards the fields below
	destroyed bool             // by StopTask
	guest     hypervisor.Guest // what it does, as it was last seen
	exit      vm.Exit
}

func newTask(cfg *drivers.TaskConfig, vmName string, started time.Time, network *drivers.DriverNetwork) *task {
	return &task{cfg: cfg, vm: vmName, started: started, network: network, ended: make(chan struct{})}
}

// follow keeps the guest going to the end of the VM, and waits for that. When
// the driver itself ends first, the task goes on without it.
func (t *task) follow(ctx context.Context, host domains, tell func(format string, args ...any)) {
	keeper := keeper{host: host, vm: t.vm, tell: tell}
	exit, err := host.WaitEnd(ctx, t.vm, func(ctx context.Context, guest hypervisor.Guest) time.Duration {
		t.note(guest)
		return keeper.look(ctx, guest)
	})
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.destroyed && exit.Signal != 0 {
		exit.Err = nil // it was this hand
	}
	t.exit = exit
	close(t.ended)
}

func (t *task) note(guest hypervisor.Guest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.guest = guest
}

func (t *task) running() bool {
	select {
	case <-t.ended:
		return false
	default:
		return true
	}
}

// stop asks the guest to shut down until the timeout is over, then destroys
// the VM, and tells which of the two ended it.
func (t *task) stop(ctx context.Context, host domains, timeout time.Duration) (string, error) {
	asked := time.Now()
	pressing, cancel := context.WithTimeout(ctx, timeout) // a libvirt that hangs has no more time either
	defer cancel()
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	press := time.NewTicker(pressEvery)
	defer press.Stop()
	for {
		// An error is no reason to give up: the next press, or the end of the
		// timeout, deals with what is wrong.
		if t.isPaused() { // it would hear nothing
			_ = host.Resume(pressing, t.vm)
		}
		_ = host.Shutdown(pressing, t.vm)
		select {
		case <-t.ended:
			if err := t.result().Err; err != nil {
				return fmt.Sprintf("The VM ended while the guest was asked to shut down: %s", err), nil
			}
			return fmt.Sprintf("The guest shut down, %s after it was asked to", time.Since(asked).Round(100*time.Millisecond)), nil
		case <-deadline.C:
			why := t.lateness(timeout)
			return why, t.destroy(ctx, host)
		case <-press.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// isPaused tells whether somebody has paused the guest, or may have.
func (t *task) isPaused() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.guest == hypervisor.GuestOther
}

// lateness tells why the VM is destroyed when a timeout is over.
func (t *task) lateness(timeout time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.guest == hypervisor.GuestHalted {
		return fmt.Sprintf("The guest could not shut down within %s, it was paused because of its disk; "+
			"the VM was destroyed", timeout)
	}
	return fmt.Sprintf("The guest did not shut down within %s, the VM was destroyed; "+
		"a longer kill_timeout gives it more time", timeout)
}

func (t *task) destroy(ctx context.Context, host domains) error {
	t.mu.Lock()
	t.destroyed = true
	t.mu.Unlock()
	if err := host.Destroy(ctx, t.vm); err != nil {
		return err
	}
	select {
	case <-t.ended:
		return nil
	case <-time.After(destroyTimeout):
		return fmt.Errorf("VM %s was destroyed, and libvirt still says that it runs", t.vm)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// result is how the task ended, which it has.
func (t *task) result() *drivers.ExitResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &drivers.ExitResult{ExitCode: t.exit.Code, Signal: t.exit.Signal, Err: t.exit.Err}
}

func (t *task) status() *drivers.TaskStatus {
	s := &drivers.TaskStatus{
		ID:               t.cfg.ID,
		Name:             t.cfg.Name,
		State:            drivers.TaskStateRunning,
		StartedAt:        t.started,
		DriverAttributes: map[string]string{"vm": t.vm},
		NetworkOverride:  t.network,
	}
	if !t.running() {
		s.State = drivers.TaskStateExited
		s.ExitResult = t.result()
		t.mu.Lock()
		s.CompletedAt = t.exit.EndedAt
		t.mu.Unlock()
	}
	return s
}
