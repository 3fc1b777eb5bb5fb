// Package storage makes the disks of VMs in the storage pools of a host, fills
// them, keeps them for as long as somebody wants to look at them, and removes
// them. A pool is a directory or a pool of a Ceph cluster; what both have to do
// is the interface Pool.
package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/rbd"
	"nomad-driver-virt/turns"
	"nomad-driver-virt/vm"
)

// Libvirt is what pools ask of libvirt; hypervisor.Host does it.
type Libvirt interface {
	EnsureDirectoryPool(ctx context.Context, name, path string) error
	EnsureCephPool(ctx context.Context, name string, r vm.RBD, key string) error
	RefreshPool(ctx context.Context, name string)
	CreateVolume(ctx context.Context, v vm.Volume, base *vm.Volume) error
	RemoveVolume(ctx context.Context, v vm.Volume) error
}

// Pool is a storage pool of libvirt's. Its methods may be called concurrently.
// A name is that of a volume in the pool.
type Pool interface {
	// Ensure has libvirt know and run the pool.
	Ensure(ctx context.Context) error
	// Source finds a volume that somebody else made, for a disk to be made from.
	// A format other than "" is what the volume has to be. ErrNoVolume if there
	// is none of that name.
	Source(ctx context.Context, name, format string) (Source, error)
	// Exists tells whether there is a volume of that name; ErrAway where that
	// cannot be seen.
	Exists(ctx context.Context, name string) (bool, error)
	// Create makes an empty volume.
	Create(ctx context.Context, v vm.Volume) error
	// Import makes the volume c.To, filled with an image. An error may leave a
	// part of it.
	Import(ctx context.Context, c image.Copy) error
	// Overlay makes a volume that is a copy-on-write copy of its parent, grown to
	// its own size.
	Overlay(ctx context.Context, v, parent vm.Volume) error
	// Rename gives a volume that is complete another name, in one step that
	// outlasts a crash. Its old name is enough to know of it. ErrNoVolume if there
	// is none, ErrExist if the name is taken.
	Rename(ctx context.Context, v vm.Volume, to string) error
	// Remove deletes a volume, with what was made of it on its parent. One that
	// is not there is no error.
	Remove(ctx context.Context, v vm.Volume) error

	// List lists the names of all volumes.
	List(ctx context.Context) ([]string, error)
	// Used notes that a base is in use now, and LastUsed tells when that was
	// noted last; the zero time if it never was. ErrNoVolume if it is gone.
	Used(ctx context.Context, base string) error
	LastUsed(ctx context.Context, base string) (time.Time, error)
	// RemoveUnused deletes a volume; ErrInUse if others overlay it.
	RemoveUnused(ctx context.Context, name string) error
}

// Errors of a Pool.
var (
	ErrNoVolume = errors.New("no such volume")
	ErrExist    = errors.New("there is such a volume")
	ErrInUse    = errors.New("other volumes overlay it")
	ErrAway     = errors.New("its directory is not there; is the file system mounted?")
)

// Source is a volume that a disk is made from.
type Source struct {
	Volume vm.Volume
	// File is the open volume, and Image what was found in it, in a pool whose
	// volumes are files; both are nil in others. The caller closes it.
	File  *os.File
	Image *vm.Image
}

// Store is the storage pools of this host.
type Store struct {
	pools map[string]Pool
	// orphaned makes the pool of a volume that was made in a directory which the
	// configuration does not name any more.
	orphaned func(vm.Volume) Pool
	// unusedFor is how long a base stays that nobody overlays.
	unusedFor time.Duration

	bases turns.Turns // by pool and name: held while one is made, overlaid or removed

	mu     sync.Mutex           // guards notYet
	notYet map[string]time.Time // by pool and name: when a base, or what was kept, has to be looked at again
}

// New returns the storage of pools by libvirt's names, where a base that nobody
// uses stays for some time.
func New(pools map[string]Pool, orphaned func(vm.Volume) Pool, unusedFor time.Duration) *Store {
	return &Store{pools: pools, orphaned: orphaned, unusedFor: unusedFor, notYet: make(map[string]time.Time)}
}

// Ensure has libvirt know and run all pools.
func (s *Store) Ensure(ctx context.Context) error {
	return s.ensure(ctx, slices.Sorted(maps.Keys(s.pools)))
}

// EnsureFor has libvirt know and run the pools that volumes are made in: another
// pool that is away is nothing to them.
func (s *Store) EnsureFor(ctx context.Context, volumes []vm.Volume) error {
	var names []string
	for _, v := range volumes {
		names = append(names, v.Pool)
	}
	slices.Sort(names)
	return s.ensure(ctx, slices.Compact(names))
}

func (s *Store) ensure(ctx context.Context, names []string) error {
	for _, name := range names {
		pool, err := s.pool(name)
		if err == nil {
			err = pool.Ensure(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) pool(name string) (Pool, error) {
	if pool, is := s.pools[name]; is {
		return pool, nil
	}
	return nil, fmt.Errorf("the plugin's configuration has no storage pool %q", name)
}

// The plan gives the volumes of VMs the name of the VM, which ends in 8 hex
// digits, and this.
var (
	ownTail = regexp.MustCompile(`^-(seed\.iso|[vsh]d[a-z]{1,2}(-base)?(\.qcow2|\.img)?)$`)
	ofVM    = regexp.MustCompile(`^[A-Za-z0-9._-]+-[0-9a-f]{8}` + strings.TrimPrefix(ownTail.String(), "^"))
	// notWritten are the tails of those that a guest does not write to.
	notWritten = regexp.MustCompile(`^-(seed\.iso|[a-z]+-base(\.[a-z0-9]+)?)$`)
)

// Source finds the volume that a disk of a pool is made from. The volumes of
// VMs are not to be had: they hold what only their tasks may read.
func (s *Store) Source(ctx context.Context, pool, name, format string) (Source, error) {
	p, err := s.pool(pool)
	if err != nil {
		return Source{}, err
	}
	if isPrivate(name) {
		return Source{}, errPrivate(name)
	}
	return p.Source(ctx, name, format)
}

// RefusePrivate is Source's refusal for a file that a job names by its path: an
// operator may have images in the directory of a pool.
func (s *Store) RefusePrivate(path string) error {
	name := filepath.Base(path)
	if !isPrivate(name) {
		return nil
	}
	for _, pool := range s.pools {
		if d, is := pool.(*Directory); is && d.holds(path) {
			return errPrivate(name)
		}
	}
	return nil
}

// isPrivate tells a volume that holds what only a task may read, while it runs
// or when it is kept.
func isPrivate(name string) bool {
	_, kept := keptUntil(name)
	return kept || ofVM.MatchString(name)
}

// RefuseName says why no disk is made from a volume of a name, whatever its pool holds.
func RefuseName(name string, inCeph bool) error {
	switch {
	case isPrivate(name):
		return errPrivate(name)
	case name == "", strings.Contains(name, "/"),
		inCeph && strings.Contains(name, "@"), !inCeph && strings.HasPrefix(name, "."):
		return fmt.Errorf("%q is no name of a volume", name)
	}
	return nil
}

func errPrivate(name string) error {
	return fmt.Errorf("volume %q is a VM's own, which goes with its task or is kept for a look at it; "+
		"give it, or a copy of it, another name to make disks from it", name)
}

// Exists tells whether a volume is there that was made for a VM, and takes it to
// be where its pool is not known any more.
func (s *Store) Exists(ctx context.Context, v vm.Volume) (bool, error) {
	pool, err := s.pool(v.Pool)
	if err != nil {
		return true, err
	}
	return pool.Exists(ctx, v.Name)
}

// RemoveEach is Remove for several volumes, and RetireEach is Retire. Where a
// cluster is away, the rest of its volumes is not tried: each would take as long
// to fail.
func (s *Store) RemoveEach(ctx context.Context, volumes []vm.Volume) error {
	return each(volumes, func(v vm.Volume) error { return s.Remove(ctx, v) })
}

// RetireEach is said with RemoveEach.
func (s *Store) RetireEach(ctx context.Context, volumes []vm.Volume) error {
	return each(volumes, func(v vm.Volume) error { return s.Retire(ctx, v) })
}

func each(volumes []vm.Volume, do func(vm.Volume) error) error {
	var errs []error
	away := make(map[string]bool) // by pool
	for _, v := range volumes {
		if away[v.Pool] {
			continue
		}
		err := do(v)
		away[v.Pool] = errors.Is(err, rbd.ErrUnreachable)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Remove deletes a volume that was made for a VM, whatever has become of its
// pool. One that is not there is no error.
func (s *Store) Remove(ctx context.Context, v vm.Volume) error {
	pool, err := s.poolOf(v)
	if err != nil {
		return err
	}
	if err := pool.Remove(ctx, v); err != nil {
		return err
	}
	if _, configured := s.pools[v.Pool]; configured && isBase(v.Parent) {
		// Only for how long the base stays: it may be gone, too.
		_ = pool.Used(ctx, v.Parent)
		s.lookAgain(volumeKey(v.Pool, v.Parent), time.Time{})
	}
	return nil
}

// Retire is Remove for a volume whose task has ended: one that is to be kept is
// given a name that tells until when.
func (s *Store) Retire(ctx context.Context, v vm.Volume) error {
	if v.Keep <= 0 {
		return s.Remove(ctx, v)
	}
	pool, err := s.poolOf(v)
	if err != nil {
		return err
	}
	err = pool.Rename(ctx, v, keptName(v.Name, time.Now().Add(v.Keep)))
	if !errors.Is(err, ErrNoVolume) {
		return err
	}
	// It was not made, is kept already, or cannot be seen now: then Remove tells.
	switch is, err := pool.Exists(ctx, v.Name); {
	case is:
		return fmt.Errorf("volume %s of storage pool %s has its old name and no new one yet", v.Name, v.Pool)
	case err != nil && !errors.Is(err, ErrAway):
		return err
	}
	return s.Remove(ctx, v)
}

// RemoveAllOf deletes the volumes of a VM of which nothing is known but its
// name: libvirt does not have its domain any more.
func (s *Store) RemoveAllOf(ctx context.Context, vmName string) error {
	volumes, err := s.volumesOf(ctx, vmName)
	return errors.Join(err, s.RemoveEach(ctx, volumes))
}

// KeepAllOf is Retire for the volumes of such a VM, which a guest may have written
// to: they are kept for some time, but for the seed, and what was to become a base.
// It returns how many are.
func (s *Store) KeepAllOf(ctx context.Context, vmName string, keep time.Duration) (kept int, err error) {
	volumes, err := s.volumesOf(ctx, vmName)
	err = errors.Join(err, each(volumes, func(v vm.Volume) error {
		if notWritten.MatchString(strings.TrimPrefix(v.Name, vmName)) {
			return s.Remove(ctx, v)
		}
		v.Keep = keep
		err := s.Retire(ctx, v)
		if err == nil {
			kept++
		}
		return err
	}))
	return kept, err
}

// volumesOf finds the volumes of a VM by its name. An error is about the pools that
// could not be looked at.
func (s *Store) volumesOf(ctx context.Context, vmName string) (volumes []vm.Volume, err error) {
	var errs []error
	for name, pool := range s.pools {
		names, err := pool.List(ctx)
		errs = append(errs, err)
		for _, v := range names {
			if tail, is := strings.CutPrefix(v, vmName); is && ownTail.MatchString(tail) {
				volumes = append(volumes, vm.Volume{Pool: name, Name: v})
			}
		}
	}
	return volumes, errors.Join(errs...)
}

func (s *Store) poolOf(v vm.Volume) (Pool, error) {
	if pool, err := s.pool(v.Pool); err == nil {
		return pool, nil
	}
	if v.Path != "" {
		return s.orphaned(v), nil
	}
	return nil, fmt.Errorf("volume %s is in storage pool %q, which the plugin's configuration does not have any more; "+
		"add the pool again until it is removed", v.Name, v.Pool)
}

// A kept volume's name is keptPrefix, when it is over, keptMark, and the name it
// had. No task can have its VM called like that: there is no keptMark in the
// names of VMs.
const (
	keptPrefix = "kept-until-"
	keptTime   = "20060102T150405Z"
	keptMark   = "+"
)

func keptName(name string, until time.Time) string {
	return keptPrefix + until.UTC().Format(keptTime) + keptMark + name
}

// keptUntil tells how long the volume of a name is kept; false for a volume
// that is none of these.
func keptUntil(name string) (time.Time, bool) {
	rest, kept := strings.CutPrefix(name, keptPrefix)
	when, was, marked := strings.Cut(rest, keptMark)
	if !kept || !marked || was == "" {
		return time.Time{}, false
	}
	until, err := time.Parse(keptTime, when)
	return until, err == nil && until.Format(keptTime) == when // a fraction of a second is no way of ours
}
