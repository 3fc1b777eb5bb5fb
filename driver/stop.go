package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nomad-driver-virt/hypervisor"
)

const (
	// pressEvery is how often a guest is asked to shut down, in each way: one that is
	// booting does not hear the first time.
	pressEvery = 5 * time.Second
	// destroyTimeout bounds the wait for a VM's end after it was destroyed.
	destroyTimeout = 30 * time.Second
	// stopEvery is how often it is tried to end a VM that should have ended.
	stopEvery = 5 * time.Second
)

// StopTask asks the guest to shut down, and destroys the VM if it still runs
// when the timeout is over. The signal is not used: a machine has one way to be
// asked. Nomad tries a stop that fails a few times and then no more, so what
// cannot be ended now is tried again until it is.
func (d *Driver) StopTask(id string, timeout time.Duration, _ string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if !t.running() {
		return nil
	}
	_, machines := d.connected()
	go t.noteStop(d.ctx, machines.host, time.Now().Add(timeout))
	return d.stop(t, machines.host, timeout, timeout.String())
}

// stop ends a task, and tells how. told is what is said of the timeout.
func (d *Driver) stop(t *task, host domains, timeout time.Duration, told string) error {
	how, err := t.stop(d.ctx, host, timeout, told)
	if err != nil {
		t.stopsLater.Do(func() { go d.stopLater(t, host) })
		return err
	}
	t.toldStop.Do(func() { d.tell(t.cfg, "%s", how) })
	return nil
}

// stopLater destroys a VM that could not be destroyed when it was time.
func (d *Driver) stopLater(t *task, host domains) {
	for {
		select {
		case <-t.ended:
			return
		case <-d.ctx.Done():
			return
		case <-time.After(stopEvery):
			_ = t.destroy(d.ctx, host)
		}
	}
}

// noteStop notes that the task is being stopped where the next plugin finds it.
func (t *task) noteStop(ctx context.Context, host domains, by time.Time) {
	for time.Now().Before(by) && t.running() {
		err := host.NoteStop(ctx, t.vm, by)
		if err == nil || errors.Is(err, hypervisor.ErrNoDomain) {
			return
		}
		select { // libvirt is away
		case <-ctx.Done():
			return
		case <-t.ended:
		case <-time.After(stopEvery):
		}
	}
}

// goOnStopping goes on with the stop of a task that a plugin before this one
// began: Nomad does not ask for it again.
func (d *Driver) goOnStopping(t *task, host libvirtHost) {
	for {
		changed := host.Changed()
		by, err := host.StopNoted(d.ctx, t.vm)
		switch {
		case err == nil && !by.IsZero():
			_ = d.stop(t, host, max(0, time.Until(by)), "its kill_timeout")
			return
		case err == nil, errors.Is(err, hypervisor.ErrNoDomain):
			return
		}
		select {
		case <-t.ended:
			return
		case <-d.ctx.Done():
			return
		case <-changed: // libvirt is away, or was
		case <-time.After(stopEvery):
		}
	}
}

// stop asks the guest to shut down until the timeout is over, then destroys
// the VM, and tells which of the two ended it.
func (t *task) stop(ctx context.Context, host domains, timeout time.Duration, told string) (string, error) {
	t.mu.Lock()
	t.stopping = true
	t.mu.Unlock()
	began := time.Now()
	asking, cancel := context.WithTimeout(ctx, timeout) // a libvirt that hangs has no more time either
	defer cancel()
	go t.askToShutDown(asking, host, min(pressEvery, timeout/3))
	select {
	case <-t.ended:
		return t.shutDownAfter(time.Since(began)), nil
	case <-asking.Done():
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	why := t.lateness(told)
	return why, t.destroy(ctx, host)
}

// askToShutDown asks the guest until the context ends: its agent, and by its power
// button where that refuses or is silent for some time, and again and again. An
// error is no reason to give up: the next press, or the end of the timeout, deals
// with what is wrong.
func (t *task) askToShutDown(ctx context.Context, host domains, patience time.Duration) {
	t.wake(ctx, host)
	refused := make(chan struct{})
	go t.askAgent(ctx, host, sync.OnceFunc(func() { close(refused) }))
	select {
	case <-refused:
	case <-time.After(patience):
	case <-ctx.Done():
		return
	}
	press := time.NewTicker(pressEvery)
	defer press.Stop()
	for {
		_ = host.PressPowerButton(ctx, t.vm)
		select {
		case <-press.C:
			t.wake(ctx, host)
		case <-ctx.Done():
			return
		}
	}
}

// askAgent asks the guest's agent, and again when it was not asked: too many others
// are, or the guest boots and has none yet.
func (t *task) askAgent(ctx context.Context, host domains, refused func()) {
	for ctx.Err() == nil {
		t.noteAsked(hypervisor.ByAgent) // if it ends before there was an answer
		if host.AskAgent(ctx, t.vm) == nil {
			return
		}
		t.noteAsked(hypervisor.ByPowerButton)
		refused()
		select {
		case <-time.After(pressEvery):
		case <-ctx.Done():
		}
	}
}

// wake lets a guest go on that somebody has paused, or may have: it would hear
// nothing.
func (t *task) wake(ctx context.Context, host domains) {
	t.mu.Lock()
	paused := t.guest == hypervisor.GuestOther || t.guest == hypervisor.GuestSleeps
	t.mu.Unlock()
	if paused {
		_ = host.Resume(ctx, t.vm)
	}
}

func (t *task) noteAsked(way hypervisor.Way) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = way
}

// shutDownAfter tells how the VM of a task ended that was asked to.
func (t *task) shutDownAfter(took time.Duration) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	after := took.Round(100 * time.Millisecond)
	switch {
	case t.exit.Err != nil:
		return fmt.Sprintf("The VM ended while the guest was asked to shut down: %s", t.exit.Err)
	case t.asked == hypervisor.ByAgent:
		return fmt.Sprintf("The guest shut down, %s after its agent was asked to", after)
	default:
		return fmt.Sprintf("The guest shut down, %s after its power button was pressed", after)
	}
}

// lateness tells why the VM is destroyed when a timeout is over.
func (t *task) lateness(timeout string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.guest == hypervisor.GuestHalted {
		return fmt.Sprintf("The guest could not shut down within %s, it was paused because of its disk; "+
			"the VM was destroyed", timeout)
	}
	return fmt.Sprintf("The guest did not shut down within %s, the VM was destroyed; "+
		"a longer kill_timeout gives it more time", timeout)
}

// noteDestroyed has the end of a VM that is destroyed be taken for Nomad's will.
func (t *task) noteDestroyed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.destroyed = true
}

func (t *task) destroy(ctx context.Context, host domains) error {
	t.noteDestroyed()
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
