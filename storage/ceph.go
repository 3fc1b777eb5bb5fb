package storage

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

// Ceph is a pool whose volumes are images of a Ceph cluster. Other hosts may
// use it at the same time.
type Ceph struct {
	Host Libvirt
	Name string // libvirt's
	RBD  rbd.Pool
}

// Ensure gives libvirt the client's key, too.
func (c *Ceph) Ensure(ctx context.Context) error {
	return c.Host.EnsureCephPool(ctx, c.Name, c.RBD.RBD, c.RBD.Key)
}

// Source asks for the volume's size.
func (c *Ceph) Source(ctx context.Context, name, format string) (Source, error) {
	if err := RefuseName(name, true); err != nil {
		return Source{}, err
	}
	if format != "" && format != image.Raw {
		return Source{}, fmt.Errorf("volumes of a Ceph pool are raw, not %s", format)
	}
	size, err := c.RBD.Size(ctx, name)
	if err != nil {
		return Source{}, c.translated(err, name)
	}
	return Source{Volume: vm.Volume{Pool: c.Name, Name: name, RBD: &c.RBD.RBD, Format: image.Raw, Size: size}}, nil
}

// Exists asks the cluster.
func (c *Ceph) Exists(ctx context.Context, name string) (bool, error) {
	_, err := c.RBD.Size(ctx, name)
	if errors.Is(err, rbd.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create takes no space: that is taken as it is written.
func (c *Ceph) Create(ctx context.Context, v vm.Volume) error {
	return c.listed(ctx, c.RBD.Create(ctx, v.Name, v.Size))
}

// listed has virsh list what has changed, if it has.
func (c *Ceph) listed(ctx context.Context, err error) error {
	if err == nil {
		c.Host.RefreshPool(ctx, c.Name)
	}
	return err
}

// Import has qemu-img write to the cluster, which lets it wait where it is full
// or gone: whether it is, is asked meanwhile.
func (c *Ceph) Import(ctx context.Context, copied image.Copy) error {
	if err := c.RBD.Create(ctx, copied.To.Name, copied.To.Size); err != nil {
		return err
	}
	copied.Key = c.RBD.Key
	filling, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { c.watch(filling, copied.To.Name, stop) })
	err := image.Fill(filling, copied)
	given := context.Cause(filling)
	stop(nil)
	watching.Wait()
	if err != nil && given == nil { // qemu-img itself has given up
		if why := c.trouble(ctx, copied.To.Name); why != nil {
			err = fmt.Errorf("%w (%w)", why, err)
		}
	}
	return c.listed(ctx, err)
}

// watchEvery is how often it is looked whether the cluster still takes data.
const watchEvery = 10 * time.Second

// watch stops what is being done to a volume when the cluster takes no data.
func (c *Ceph) watch(ctx context.Context, name string, stop context.CancelCauseFunc) {
	ticks := time.NewTicker(watchEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		if err := c.trouble(ctx, name); err != nil {
			stop(err)
		}
	}
}

// trouble tells why a volume takes no data, nil if that is not known.
func (c *Ceph) trouble(ctx context.Context, name string) error {
	err := c.RBD.Full(ctx)
	if err == nil {
		_, err = c.RBD.Size(ctx, name)
	}
	if errors.Is(err, rbd.ErrFull) || errors.Is(err, rbd.ErrUnreachable) {
		return err
	}
	return nil
}

// Overlay makes a clone, which leaves nothing on its parent that is seen there.
func (c *Ceph) Overlay(ctx context.Context, v, parent vm.Volume) error {
	err := c.RBD.Clone(ctx, parent.Name, v.Name)
	if err == nil && v.Size > parent.Size {
		err = c.RBD.Resize(ctx, v.Name, v.Size)
	}
	return c.listed(ctx, err)
}

// Rename is one step for all hosts of the cluster.
func (c *Ceph) Rename(ctx context.Context, v vm.Volume, to string) error {
	return c.listed(ctx, c.translated(c.RBD.Rename(ctx, v.Name, to), v.Name))
}

// translated says in this package's errors what went wrong with a volume.
func (c *Ceph) translated(err error, name string) error {
	for theirs, ours := range map[error]error{
		rbd.ErrNotExist: ErrNoVolume,
		rbd.ErrExist:    ErrExist,
		rbd.ErrInUse:    ErrInUse,
	} {
		if errors.Is(err, theirs) {
			return fmt.Errorf("volume %s of storage pool %s: %w", name, c.Name, ours)
		}
	}
	return err
}

// Remove also takes away what a clone that was cut off has left on its parent.
func (c *Ceph) Remove(ctx context.Context, v vm.Volume) error {
	if v.Parent != "" {
		if err := c.RBD.Forget(ctx, v.Parent, v.Name); err != nil {
			return err
		}
	}
	err := untilClosed(ctx, func(ctx context.Context) error { return c.RBD.Remove(ctx, v.Name) })
	return c.listed(ctx, err)
}

const (
	// watchedFor is how long Ceph takes a client that died for one that lives
	// (osd_client_watch_timeout), and noticedWithin how much later that is noticed
	// by an OSD that has other things to do, and here.
	watchedFor    = 30 * time.Second
	noticedWithin = 15 * time.Second
	askEvery      = 2 * time.Second
)

// untilClosed removes an image once Ceph has noticed that the client that had it
// open, a QEMU or a qemu-img, has died.
func untilClosed(ctx context.Context, remove func(context.Context) error) error {
	over := time.NewTimer(watchedFor + noticedWithin)
	defer over.Stop()
	for {
		err := remove(ctx)
		if !errors.Is(err, rbd.ErrOpen) {
			return err
		}
		select {
		case <-over.C:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(askEvery):
		}
	}
}

// List asks the cluster.
func (c *Ceph) List(ctx context.Context) ([]string, error) { return c.RBD.List(ctx) }

// Used is noted in the base's metadata.
func (c *Ceph) Used(ctx context.Context, base string) error {
	return c.RBD.Touch(ctx, base, time.Now())
}

// LastUsed reads what Used noted, on whichever host.
func (c *Ceph) LastUsed(ctx context.Context, base string) (time.Time, error) {
	used, err := c.RBD.Touched(ctx, base)
	return used, c.translated(err, base)
}

// RemoveUnused relies on Ceph, which knows of all clones. A snapshot is somebody's
// too: of another host that is about to clone, or of who wants to keep it.
func (c *Ceph) RemoveUnused(ctx context.Context, name string) error {
	return c.listed(ctx, c.translated(c.RBD.RemoveUnused(ctx, name), name))
}
