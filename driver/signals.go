package driver

import (
	"context"
	"fmt"
	"strings"
)

// signals are those that mean something to a machine. Others, such as SIGHUP and
// SIGUSR1, are requests to a program, and there is none that they could be for.
var signals = []struct {
	names []string
	does  string // what an event tells
	do    func(ctx context.Context, m *machines, t *task) error
}{
	{
		[]string{"SIGTERM", "SIGINT", "SIGQUIT"}, "the guest was asked to shut down",
		func(ctx context.Context, m *machines, t *task) error {
			_, err := m.host.Shutdown(ctx, t.vm)
			return err
		},
	},
	{
		[]string{"SIGKILL"}, "the VM was destroyed",
		func(ctx context.Context, m *machines, t *task) error { return t.destroy(ctx, m.host) },
	},
	{
		[]string{"SIGSTOP"}, "the guest was paused, SIGCONT has it go on",
		func(ctx context.Context, m *machines, t *task) error {
			// Before, lest it is taken for another hand's. Only what events say depends on it.
			_ = m.host.NotePause(ctx, t.vm, true)
			err := m.host.Suspend(ctx, t.vm)
			if err != nil {
				_ = m.host.NotePause(ctx, t.vm, false)
			}
			return err
		},
	},
	{
		[]string{"SIGCONT"}, "the guest goes on",
		func(ctx context.Context, m *machines, t *task) error {
			err := m.host.Resume(ctx, t.vm)
			if err == nil {
				_ = m.host.NotePause(ctx, t.vm, false)
			}
			return err
		},
	},
}

// SignalTask does with a VM what a signal does with a process, as far as there is
// the like of it: nomad alloc signal, and change_mode = "signal" of templates.
func (d *Driver) SignalTask(id, signal string) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	var known []string
	for _, s := range signals {
		for _, name := range s.names {
			known = append(known, name)
			if name != signal {
				continue
			}
			_, machines := d.connected()
			if err := s.do(d.ctx, machines, t); err != nil {
				return err
			}
			d.tell(t.cfg, "%s: %s", signal, s.does)
			return nil
		}
	}
	return fmt.Errorf("a VM has no use for the signal %q; those that it knows are %s", signal, strings.Join(known, ", "))
}
