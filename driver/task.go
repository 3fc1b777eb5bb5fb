package driver

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// task is one start of a Nomad task whose VM was started.
type task struct {
	cfg     *drivers.TaskConfig
	vm      string
	started time.Time
	network *drivers.DriverNetwork

	ended  chan struct{} // closed when exit is set
	logged chan struct{} // closed when its console is in its logs to the end

	toldStop   sync.Once                  // how it was stopped
	stopsLater sync.Once                  // it could not be
	hostStops  func(context.Context) bool // whether the host is shutting down; nil: it is not

	mu        sync.Mutex       // guards the fields below
	stopping  bool             // StopTask has begun
	destroyed bool             // by Nomad
	guest     hypervisor.Guest // what it does, as it was last seen
	asked     hypervisor.Way   // to shut down, by StopTask
	exit      vm.Exit
	taps      []vm.Tap           // nil: not known yet
	published []vm.Publication   // nil: not known
	found     map[string]foundAt // by hardware address
	finding   bool               // what is published at such an address is being changed

	noted     map[string]netip.Addr   // by hardware address: the addresses in the VM's note
	unknown   map[string]vm.Interface // by hardware address: whose ports of IPv4 stay as they are, wherever they lead
	searches  bool                    // for the addresses that are to be found
	unlearned news                    // what is not known, and why
}

func newTask(cfg *drivers.TaskConfig, vmName string, started time.Time, network *drivers.DriverNetwork) *task {
	return &task{
		cfg: cfg, vm: vmName, started: started, network: network,
		ended: make(chan struct{}), logged: make(chan struct{}),
		found: make(map[string]foundAt), unknown: make(map[string]vm.Interface),
	}
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
	lost := exit.Err == nil && t.hostStops != nil && t.hostStops(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if lost && !t.stopping {
		// Nobody is to take that for the end of the guest's work.
		exit.Code, exit.Err = 1, errors.New("the guest was shut down because its host is shutting down")
	}
	if t.destroyed && exit.Signal != 0 && !exit.OOMKilled {
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

// result is how the task ended, which it has.
func (t *task) result() *drivers.ExitResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &drivers.ExitResult{ExitCode: t.exit.Code, Signal: t.exit.Signal, OOMKilled: t.exit.OOMKilled, Err: t.exit.Err}
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
