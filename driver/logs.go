package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"
	"time"

	"nomad-driver-virt/console"
)

// logAgain is when a log is written to again that could not be.
const logAgain = 5 * time.Second

// followLogs copies the VM's console to the task's logs until it has ended and all
// is copied. It is the task's stdout; a machine has no stderr.
//
// Nomad's collector reads a log to its end, once: when the plugin was killed it is
// away until the agent starts again or the task does. So both are held open,
// whatever becomes of the console.
func (d *Driver) followLogs(t *task, c consoles) {
	var logs sync.WaitGroup
	for _, fifo := range []string{t.cfg.StdoutPath, t.cfg.StderrPath} {
		if isLog(fifo) {
			logs.Go(func() {
				if err := console.Hold(d.ctx, fifo, t.ended); err != nil {
					d.warnOfLog(t, err)
				}
			})
		}
	}
	if isLog(t.cfg.StdoutPath) {
		logs.Go(func() { d.followConsole(t, c) })
	}
	logs.Wait()
	close(t.logged)
}

// isLog tells whether somebody may read what is written to a path: not where the
// job says logs { disabled = true }.
func isLog(path string) bool { return path != "" && path != os.DevNull }

func (d *Driver) followConsole(t *task, c consoles) {
	var last news
	for ended := false; ; {
		err := c.Follow(d.ctx, t.vm, t.cfg.StdoutPath, t.ended)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // the VM is of a version before this one
			return
		}
		if last.is(err, time.Now()) {
			d.warnOfLog(t, err)
		}
		if ended {
			return
		}
		select {
		case <-time.After(logAgain):
		case <-t.ended: // once more, for the last words
			ended = true
		case <-d.ctx.Done():
			return
		}
	}
}

func (d *Driver) warnOfLog(t *task, err error) {
	d.logger.Warn("a task's log cannot be written", "task", t.cfg.ID, "error", err)
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
