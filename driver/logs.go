package driver

import (
	"context"
	"errors"
	"io/fs"
	"sync"
	"time"

	"nomad-driver-virt/console"
)

// followLogs copies the VM's console to the task's logs until it has ended and all
// is copied. It is the task's stdout; a machine has no stderr.
//
// Nomad's collector reads a log to its end, once: when the plugin was killed it is
// away until the agent starts again or the task does.
func (d *Driver) followLogs(t *task, c consoles) {
	var logs sync.WaitGroup
	follow := func(stream, fifo string, do func() error) {
		if fifo == "" {
			return
		}
		logs.Go(func() {
			if err := do(); err != nil {
				d.logger.Warn("a task's log is not written any more", "task", t.cfg.ID, "log", stream, "error", err)
			}
		})
	}
	follow("stderr", t.cfg.StderrPath, func() error { return console.Hold(d.ctx, t.cfg.StderrPath, t.ended) })
	follow("stdout", t.cfg.StdoutPath, func() error {
		err := c.Follow(d.ctx, t.vm, t.cfg.StdoutPath, t.ended)
		if errors.Is(err, fs.ErrNotExist) { // the VM is of a version before this one
			return console.Hold(d.ctx, t.cfg.StdoutPath, t.ended)
		}
		return err
	})
	logs.Wait()
	close(t.logged)
}

// logTimeout bounds the wait for the rest of a console before it is removed.
const logTimeout = 3 * time.Second

// waitLogged waits until all that the VM said is in the logs.
func (t *task) waitLogged(ctx context.Context) {
	select {
	case <-t.logged:
	case <-time.After(logTimeout):
	case <-ctx.Done():
	}
}
