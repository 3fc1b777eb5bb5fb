package driver

import (
	"errors"
	"os"
	"syscall"

	"github.com/hashicorp/nomad/plugins/drivers"
)

// logs holds a task's log FIFOs open as long as the task runs. The guest's
// console is not written to them yet; but Nomad's collector waits for a writer,
// and would make each stop five seconds longer for want of one.
type logs []*os.File

// openLogs does not wait for a reader: where there is none, there is nothing to
// hold open.
func openLogs(cfg *drivers.TaskConfig) (logs, error) {
	var l logs
	for _, path := range []string{cfg.StdoutPath, cfg.StderrPath} {
		if path == "" {
			continue
		}
		fifo, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if errors.Is(err, syscall.ENXIO) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			l.close()
			return nil, err
		}
		l = append(l, fifo)
	}
	return l, nil
}

func (l logs) close() {
	for _, fifo := range l {
		fifo.Close()
	}
}
