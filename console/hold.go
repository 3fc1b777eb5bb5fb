package console

import (
	"context"
	"errors"
	"time"
)

// Hold holds a FIFO open that nothing is written to, as soon as somebody reads it,
// until the VM has ended. Nomad's collector waits for a writer, and would make each
// stop five seconds longer for want of one.
func Hold(ctx context.Context, fifo string, ended <-chan struct{}) error {
	out := &pipe{path: fifo}
	defer out.close()
	for {
		var again <-chan time.Time
		switch err := out.open(); {
		case errors.Is(err, errNoReader):
			again = time.After(readerEvery)
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			return nil
		case <-again:
		}
	}
}
