package console

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errNoReader says that nobody reads a FIFO.
var errNoReader = errors.New("nobody reads the log")

// pipe is the writing end of a FIFO. What it holds outlasts its readers as long as
// one end is open, and a reader may have stopped reading without closing his: so
// what was written is not what was read.
//
// See pipe(7) and fifo(7).
type pipe struct {
	path   string
	fd     int // 0: not open
	inPipe int // bytes that were written and that nobody has read, as was seen last
}

// open does not wait for a reader; errNoReader if there has never been one. What
// another writer has left in the pipe is in it. What is no FIFO is refused: other
// tasks of the group can write to the directory, and the plugin is root.
func (p *pipe) open() error {
	if p.fd != 0 {
		return nil
	}
	fd, err := unix.Open(p.path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENOENT) {
		return errNoReader
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", p.path, err)
	}
	var file unix.Stat_t
	if err := unix.Fstat(fd, &file); err != nil || file.Mode&unix.S_IFMT != unix.S_IFIFO {
		_ = unix.Close(fd)
		return fmt.Errorf("%s is no FIFO", p.path)
	}
	p.fd = fd
	p.inPipe, err = p.unread()
	return err
}

// taken returns how many bytes were read of what was written.
func (p *pipe) taken() (int, error) {
	was := p.inPipe
	now, err := p.unread()
	p.inPipe = now
	return was - now, err
}

func (p *pipe) unread() (int, error) {
	n, err := unix.IoctlGetInt(p.fd, unix.TIOCINQ) // FIONREAD, which ioctl_tty(2) describes
	if err != nil {
		err = fmt.Errorf("looking into %s: %w", p.path, err)
	}
	return n, err
}

// write writes what there is room for, and returns how much that was. It waits for
// nobody.
func (p *pipe) write(b []byte) (int, error) {
	n, err := unix.Write(p.fd, b)
	n = max(0, n)
	p.inPipe += n
	switch {
	case errors.Is(err, unix.EPIPE):
		return n, errNoReader // for now
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return n, nil
	case err != nil:
		return n, fmt.Errorf("writing to %s: %w", p.path, err)
	}
	return n, nil
}

func (p *pipe) close() {
	if p.fd != 0 {
		_ = unix.Close(p.fd)
		p.fd = 0
	}
}
