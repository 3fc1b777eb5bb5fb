// Package rbd makes, grows, clones, renames and removes the volumes of a Ceph
// pool, by the program rbd (Debian: ceph-common). Each call is one process or a
// few, which are given up when Ceph does not answer: a full or absent Ceph
// hangs neither libvirt nor this process.
//
// See https://docs.ceph.com/en/pacific/man/8/rbd/
package rbd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"nomad-driver-virt/vm"
)

// Pool is a Ceph pool, with what it takes to use it. Its methods may be called
// concurrently. Each error is one sentence with the volume, the pool and the
// reason; those below can be told by errors.Is. A name of a volume must not
// have "/" or "@" in it.
type Pool struct {
	vm.RBD
	// Key is the client's secret, in base64 as `ceph auth print-key` writes it.
	Key string `json:"-"`
}

// String names the pool in a sentence: whatever prints a Pool prints no key.
func (p Pool) String() string { return "Ceph pool " + p.Pool }

// GoString is String for %#v.
func (p Pool) GoString() string { return p.String() }

// where names the pool and who leads to it.
func (p Pool) where() string { return fmt.Sprintf("%s at monitors %s", p, p.monitors()) }

func (p Pool) monitors() string { return strings.Join(p.Monitors, ", ") }

// What a volume can be.
var (
	ErrNotExist = errors.New("there is no such volume")
	ErrExist    = errors.New("there is a volume of that name already")
	ErrInUse    = errors.New("clones of it are in use")
	ErrOpen     = errors.New("a client has it open")
)

// What keeps Ceph from doing as it is told.
var (
	ErrUnreachable = errors.New("cannot be reached")
	ErrFull        = errors.New("is full")
)

const (
	// removeTimeout is for volumes whose many objects are removed one by one.
	removeTimeout = 10 * time.Minute
	// renameTimeout is how long it is waited for what goes on by itself.
	renameTimeout = 10 * time.Minute
)

// Create makes an empty volume of exactly that size; ErrExist.
func (p Pool) Create(ctx context.Context, name string, size vm.Bytes) error {
	_, err := p.rbd(ctx, fmt.Sprintf("creating volume %s of %s", name, size),
		"create", "--size", inBytes(size), p.spec(name))
	return err
}

// Size returns how large a volume is for who opens it; ErrNotExist.
func (p Pool) Size(ctx context.Context, name string) (vm.Bytes, error) {
	asked := "looking up volume " + name
	out, err := p.rbd(ctx, asked, "info", "--format", "json", p.spec(name))
	if err != nil {
		return 0, err
	}
	size, err := parseSize(out)
	return size, p.read(asked, err)
}

// Resize makes a volume larger; ErrNotExist. One that has that size already is
// no error, one that is larger is.
func (p Pool) Resize(ctx context.Context, name string, size vm.Bytes) error {
	_, err := p.rbd(ctx, fmt.Sprintf("growing volume %s to %s", name, size),
		"resize", "--no-progress", "--size", inBytes(size), p.spec(name))
	if errors.Is(err, errSameSize) {
		return nil
	}
	return err
}

// Rename gives a volume another name; ErrNotExist, and ErrExist if that name is
// taken. Of several hosts that give the same name at the same time, one
// succeeds. It works with volumes that are open.
//
// It goes on when the context ends, when nobody waits for it any more, and when
// this process dies: a volume that has its new name and still has its old one is
// lost if the old is removed.
func (p Pool) Rename(ctx context.Context, from, to string) error {
	asked := fmt.Sprintf("renaming volume %s to %s", from, to)
	_, err := p.run(context.WithoutCancel(ctx), asked, program{
		name:     "rbd",
		args:     []string{"rename", p.spec(from), p.spec(to)},
		outlives: true,
	})
	if err != nil {
		return err
	}
	// Where another took the name between rbd's look and its attempt, rbd says
	// nothing of that, and the volume has the name it had.
	switch _, err := p.Size(ctx, from); {
	case errors.Is(err, ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%s: %s: %w", asked, p, ErrExist)
}

// List returns the names of the pool's volumes.
func (p Pool) List(ctx context.Context) ([]string, error) {
	const asked = "listing the volumes"
	out, err := p.rbd(ctx, asked, "ls", "--format", "json", p.Pool)
	if err != nil {
		return nil, err
	}
	names, err := parseNames(out)
	return names, p.read(asked, err)
}

// Remove removes a volume and its snapshots. One that is not there is no error.
// ErrInUse says that clones of it live, ErrOpen that a client has it open, or
// had it open when it died less than 30 s ago. If the context has no deadline
// it takes up to 10 minutes, since large volumes do.
func (p Pool) Remove(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx, removeTimeout)
	defer cancel()
	err := p.remove(ctx, name)
	if errors.Is(err, errSnapshots) {
		if err = p.removeSnapshots(ctx, name); err == nil {
			err = p.remove(ctx, name)
		}
	}
	switch {
	case errors.Is(err, ErrNotExist):
		return p.gone(ctx, name)
	case errors.Is(err, ErrInUse):
		return p.naming(ctx, name, err)
	case errors.Is(err, context.DeadlineExceeded):
		return p.notDone(ctx, name, err)
	}
	return err
}

// RemoveUnused removes a volume that nothing depends on: ErrInUse if it has
// snapshots, whoever made them, or clones.
func (p Pool) RemoveUnused(ctx context.Context, name string) error {
	ctx, cancel := bounded(ctx, removeTimeout)
	defer cancel()
	switch err := p.remove(ctx, name); {
	case errors.Is(err, ErrNotExist):
		return p.gone(ctx, name)
	case errors.Is(err, errSnapshots):
		return fmt.Errorf("%w: %w", ErrInUse, err)
	default:
		return err
	}
}

// notDone tells a removal that takes long from a cluster that is away.
func (p Pool) notDone(ctx context.Context, name string, err error) error {
	if _, away := p.Size(context.WithoutCancel(ctx), name); away != nil {
		return err
	}
	return fmt.Errorf("removing volume %s: %s: it is not done within %s, and goes on at the next try", name, p, removeTimeout)
}

// gone makes sure of what rbd says: in a pool that is full, and of which nothing
// was ever removed, rbd misses an object of its own, and says the same.
func (p Pool) gone(ctx context.Context, name string) error {
	switch _, err := p.Size(ctx, name); {
	case errors.Is(err, ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	err := p.Full(ctx)
	if err == nil {
		err = fmt.Errorf("%s: rbd says that it is not there, and it is", p)
	}
	return fmt.Errorf("removing volume %s: %w", name, err)
}

func (p Pool) remove(ctx context.Context, name string) error {
	_, err := p.rbd(ctx, "removing volume "+name, "rm", "--no-progress", p.spec(name))
	return err
}

// removeSnapshots removes the snapshots of a volume. Those that clones were made
// of are only hidden: rbd will say so when the volume is to be removed.
func (p Pool) removeSnapshots(ctx context.Context, name string) error {
	asked := "removing the snapshots of volume " + name
	out, err := p.rbd(ctx, asked, "snap", "ls", "--format", "json", p.spec(name))
	if err != nil {
		return err
	}
	snapshots, err := parseSnapshots(out)
	if err != nil {
		return p.read(asked, err)
	}
	for _, s := range snapshots {
		if !s.Protected {
			continue
		}
		if _, err := p.rbd(ctx, asked, "snap", "unprotect", p.spec(name)+"@"+s.Name); err != nil {
			return err
		}
	}
	_, err = p.rbd(ctx, asked, "snap", "purge", "--no-progress", p.spec(name))
	return err
}

// naming adds to an error of a volume which clones of it there are.
func (p Pool) naming(ctx context.Context, name string, err error) error {
	out, unlisted := p.rbd(ctx, "listing the clones of volume "+name, "children", "--all", "--format", "json", p.spec(name))
	if unlisted != nil {
		return err
	}
	clones, unread := parseChildren(out)
	if unread != nil || len(clones) == 0 {
		return err
	}
	slices.Sort(clones)
	if more := len(clones) - 3; more > 0 {
		clones = append(clones[:3], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("%w: %s; remove those first", err, strings.Join(clones, ", "))
}

// spec is how rbd is told of a volume; "" if its name would mean something else
// to rbd, which run refuses.
func (p Pool) spec(name string) string {
	if name == "" || strings.ContainsAny(name, "/@") {
		return ""
	}
	return p.Pool + "/" + name
}

// inBytes writes a size for rbd, which takes a number without a unit for MiB.
func inBytes(size vm.Bytes) string { return strconv.FormatUint(uint64(size), 10) + "B" }
