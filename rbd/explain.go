package rbd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

var (
	// errSilent is what may be for a full pool.
	errSilent    = errors.New("it does not answer")
	errSnapshots = errors.New("it has snapshots that rbd does not remove; `rbd snap ls --all` lists them")
	errSameSize  = errors.New("it has that size already")
)

// explain says what a program of Ceph means by its exit status, which is an
// errno, and by what it wrote on standard error, in one line.
func (p Pool) explain(status syscall.Errno, said string) error {
	says := func(words string) bool { return strings.Contains(said, words) }
	if says("couldn't connect to the cluster") || says("error connecting to the cluster") {
		return p.explainConnection(status, said)
	}
	of := func(err error) error { return fmt.Errorf("%s: %w", p, err) }
	switch {
	case status == syscall.ENOENT && says("error opening pool"):
		return fmt.Errorf("%s does not exist: correct its name in the plugin's configuration, "+
			"or make it by `ceph osd pool create %s` and `rbd pool init %s`", p.where(), p.Pool, p.Pool)
	case status == syscall.ENOENT:
		return of(ErrNotExist)
	case status == syscall.EEXIST:
		return of(ErrExist)
	case status == syscall.ENOTEMPTY && says("linked clones"):
		return of(ErrInUse)
	case status == syscall.ENOTEMPTY:
		return of(errSnapshots)
	case status == syscall.EBUSY && says("watchers"):
		return of(fmt.Errorf("%w, or died less than 30 s ago; end the VM that uses it, or wait", ErrOpen))
	case status == syscall.EBUSY && says("unprotecting"):
		return of(ErrInUse)
	case status == syscall.EINVAL && says("equal to original size"):
		return of(errSameSize)
	case status == syscall.EPERM && says("Operation not permitted"):
		return fmt.Errorf("client.%s may not do that in Ceph pool %s: it needs the caps mon 'profile rbd' and osd 'profile rbd pool=%s'",
			p.User, p.Pool, p.Pool)
	case status == syscall.ENOSPC, status == syscall.EDQUOT:
		return fmt.Errorf("%s %w (%w); remove volumes, or add OSDs", p, ErrFull, status)
	case status == syscall.ETIMEDOUT:
		return fmt.Errorf("%s %w: %w within %s, though a monitor does; `ceph health detail` tells which OSDs are down",
			p.where(), ErrUnreachable, errSilent, osdTimeout)
	}
	return of(fmt.Errorf("rbd failed (status %d): %s", int(status), clip(said)))
}

// explainConnection says why the monitors let nobody in.
func (p Pool) explainConnection(status syscall.Errno, said string) error {
	switch {
	case status == syscall.EACCES, status == syscall.ENOTSUP:
		return fmt.Errorf("%s does not let client.%s in: there is no such user, or the key is not its key; "+
			"compare both with `ceph auth get client.%s`", p.where(), p.User, p.User)
	case strings.Contains(said, "unable to parse addrs"):
		return fmt.Errorf("%s %w: one of these names cannot be resolved; "+
			"correct it in the plugin's configuration, or give the address", p.where(), ErrUnreachable)
	case status == syscall.ETIMEDOUT:
		return fmt.Errorf("%s %w: no monitor answered within %s; "+
			"is Ceph up, do most of its monitors run, and does the network lead there?", p.where(), ErrUnreachable, mountTimeout)
	}
	return fmt.Errorf("%s %w (status %d): %s", p.where(), ErrUnreachable, int(status), clip(said))
}

// givenUp says that a program was ended before it was done.
func (p Pool) givenUp(program string, why error) error {
	if errors.Is(why, context.DeadlineExceeded) {
		return fmt.Errorf("%s %w: %s was given up, since %w: %w",
			p.where(), ErrUnreachable, program, errSilent, why)
	}
	return fmt.Errorf("%s: %s was given up: %w", p, program, why)
}

// clip shortens what a program wrote for an error.
func clip(said string) string {
	const most = 300
	if len(said) > most {
		return said[:most] + "..."
	}
	return said
}
