package console

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// A log that nothing is written to, and a pipe that nobody reads, are looked at
	// after idleFirst, then half as often each time, down to once in idleLast.
	idleFirst = time.Millisecond
	idleLast  = 500 * time.Millisecond
	// readerEvery is how often it is looked for a reader where there is none.
	readerEvery = time.Second
	// When the VM has ended, its last words have come when nothing has come for
	// quietFor: virtlogd may be at work still. A reader who takes nothing has
	// lastWords to do so.
	quietFor  = 200 * time.Millisecond
	lastWords = 2 * time.Second
)

// lost stands in a log where some of it is missing.
const lost = "\r\n[nomad-driver-virt: some of the console's output is missing here, it came faster than it was read]\r\n"

// Follow copies the console of a VM to a FIFO, from where the last Follow of it
// stopped, until its VM has ended and all was copied, or the context ends. Where
// nobody reads the FIFO it waits until somebody does, and copies then what
// virtlogd still has. It holds up nothing: a guest whose console nobody reads
// writes on.
func Follow(ctx context.Context, vmName, fifo string, ended <-chan struct{}) error {
	tail, err := openTail(Log(vmName))
	if err != nil {
		return err
	}
	defer tail.close()
	out := &pipe{path: fifo}
	defer out.close()
	return copyAll(ctx, tail, out, ended)
}

// copyAll is Follow with what it has opened.
func copyAll(ctx context.Context, tail *tail, out *pipe, ended <-chan struct{}) error {
	copied := time.Now()
	idle := idleFirst
	over := false
	for {
		progress, err := copyNext(tail, out)
		wait := idle
		switch {
		case errors.Is(err, errNoReader):
			if over {
				return nil
			}
			wait = readerEvery
		case err != nil:
			return err
		case progress == some:
			copied, idle, wait = time.Now(), idleFirst, 0
		case over && progress == none && time.Since(copied) > quietFor, over && time.Since(copied) > lastWords:
			return nil
		case over:
			wait, idle = quietFor/4, idleFirst
		default:
			idle = min(2*idle, idleLast)
		}
		select {
		case <-ctx.Done():
			_, err := confirm(tail, out)
			return err
		case <-ended:
			ended, over = nil, true
			copied, idle = time.Now(), idleFirst
		case <-time.After(wait):
		}
	}
}

// progress is what became of one attempt to copy.
type progress int

const (
	none  progress = iota // there is nothing to copy
	stuck                 // there is, and the reader does not take it
	some
)

// chunk is how much is written to a pipe at once: less than it holds.
const chunk = 16 << 10

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// confirm notes what was read of what was written, and returns how much that was.
func confirm(tail *tail, out *pipe) (int, error) {
	if out.fd == 0 {
		return 0, nil
	}
	n, err := out.taken()
	if n > 0 {
		tail.advance(n)
	}
	return n, err
}

// copyNext brings a copy one step forward. Nothing is written before all was read
// that was written before, so that the tail's position is that of the reader.
func copyNext(tail *tail, out *pipe) (progress, error) {
	wasOpen := out.fd != 0
	if err := out.open(); err != nil {
		return none, err
	}
	if !wasOpen && tail.pos == (position{}) {
		tail.ahead = out.inPipe // of another VM's
	}
	if n, err := confirm(tail, out); n > 0 || err != nil {
		return some, err
	}
	if out.inPipe > 0 {
		return stuck, nil
	}
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	if tail.gap {
		n, err := out.write([]byte(lost))
		tail.ahead += n
		tail.gap = n == 0
		return some, err
	}
	n, err := tail.read(buf[:])
	if tail.gap || n == 0 || err != nil {
		return none, err
	}
	_, err = out.write(buf[:n])
	return some, err
}
