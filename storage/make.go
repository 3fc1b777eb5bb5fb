package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/memfile"
	"nomad-driver-virt/vm"
)

const (
	// makeTimeout is how long what takes long may take.
	makeTimeout = 30 * time.Minute
	// quietFor is how long a copy may take before it tells how far it is.
	quietFor = 5 * time.Second
)

// Tell is told what the author of a job wants to know.
type Tell func(format string, args ...any)

// Make makes a disk. source is the open file of its image, nil if it has none.
func (s *Store) Make(ctx context.Context, d vm.Disk, source *os.File, tell Tell) error {
	if d.Volume.Pool == "" {
		return fillDevice(ctx, d, source, tell)
	}
	pool, err := s.pool(d.Volume.Pool)
	if err != nil {
		return err
	}
	switch {
	case d.Base != nil:
		return s.overlay(ctx, pool, d, source, tell)
	case d.Image != nil:
		began := time.Now()
		if err := importImage(ctx, pool, d, d.Volume, source, tell); err != nil {
			return err
		}
		tell("Copied image %s to disk %s in %s", d.Image.Path, d.Device, since(began))
		return nil
	}
	ctx, cancel := Bounded(ctx)
	defer cancel()
	return pool.Create(ctx, d.Volume)
}

// Bounded gives what may take long 30 minutes: to read images, to copy one, to
// allocate a volume.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, makeTimeout, fmt.Errorf("it took longer than %s", makeTimeout))
}

// overlay makes a disk's base if the pool does not have it, and the disk on it.
// Whoever needs a base that is being made waits for it; nobody removes it
// meanwhile. A base has its name when it is complete, and not before.
func (s *Store) overlay(ctx context.Context, pool Pool, d vm.Disk, source *os.File, tell Tell) error {
	done, err := s.bases.Take(ctx, volumeKey(d.Base.Pool, d.Base.Name))
	if err != nil {
		return err
	}
	defer done()
	if d.Base.Staging.Name != "" {
		if err := ensureBase(ctx, pool, d, source, tell); err != nil {
			return err
		}
	}
	return pool.Overlay(ctx, d.Volume, d.Base.Volume)
}

func ensureBase(ctx context.Context, pool Pool, d vm.Disk, source *os.File, tell Tell) error {
	exists, err := pool.Exists(ctx, d.Base.Name)
	if err != nil {
		return err
	}
	if !exists {
		began := time.Now()
		if err := importImage(ctx, pool, d, d.Base.Staging, source, tell); err != nil {
			return err
		}
		err := pool.Rename(ctx, d.Base.Staging, d.Base.Name)
		if errors.Is(err, ErrExist) { // another host of the cluster was faster
			err = pool.Remove(ctx, d.Base.Staging)
		}
		if err != nil {
			return err
		}
		tell("Imported image %s as base %s of pool %s in %s", d.Image.Path, d.Base.Name, d.Base.Pool, since(began))
	}
	return pool.Used(ctx, d.Base.Name)
}

func volumeKey(pool, name string) string { return pool + "/" + name }

// importImage has a pool copy the image of a disk.
func importImage(ctx context.Context, pool Pool, d vm.Disk, to vm.Volume, source *os.File, tell Tell) error {
	ctx, cancel := Bounded(ctx)
	defer cancel()
	return pool.Import(ctx, copyOf(d, to, source, tell))
}

func copyOf(d vm.Disk, to vm.Volume, source *os.File, tell Tell) image.Copy {
	return image.Copy{
		File:     source,
		Image:    *d.Image,
		To:       to,
		Progress: Quarters(fmt.Sprintf("Copying image %s for disk %s", d.Image.Path, d.Device), tell),
	}
}

// Quarters tells each quarter of what begins now and takes long. Nomad keeps few
// events.
func Quarters(what string, tell Tell) func(done float64) {
	began, told := time.Now(), 0.0
	return func(done float64) {
		quarter := math.Floor(done*4) / 4
		if took := time.Since(began); took >= quietFor && quarter > told && quarter < 1 {
			told = quarter
			tell("%s: %.0f%% done after %s", what, quarter*100, took.Round(time.Second))
		}
	}
}

// fillDevice writes an image to a disk that is a block device of the host's, if
// that is blank, or to be overwritten in this allocation.
func fillDevice(ctx context.Context, d vm.Disk, source *os.File, tell Tell) error {
	if d.Image == nil {
		return judgeDevice(d)
	}
	device, err := image.OpenDevice(d.Volume.Path)
	if err != nil {
		return err
	}
	defer device.Close()
	state, err := device.State()
	if err != nil {
		return err
	}
	once := d.OverwriteOnce != ""
	done := once && exists(d.OverwriteOnce)
	switch {
	case state == image.Unfinished: // whoever began it wanted it
	case done:
		return nil
	case state == image.HoldsData && !once:
		tell("Disk %s was left as it is: %s holds data already, image %s was not written to it; "+
			"source { overwrite = true } has it written", d.Device, device.Path, d.Image.Path)
		return nil
	}
	began := time.Now()
	ctx, cancel := Bounded(ctx)
	defer cancel()
	if err := image.Check(ctx, source, *d.Image); err != nil { // before what the device holds is gone
		return err
	}
	if err := device.Fill(ctx, copyOf(d, d.Volume, source, tell)); err != nil {
		return err
	}
	if once {
		// Before this no guest has run on it: to write it twice loses nothing.
		if err := note(d.OverwriteOnce); err != nil {
			return err
		}
	}
	tell("Wrote image %s to disk %s, %s, in %s", d.Image.Path, d.Device, device.Path, since(began))
	return nil
}

// judgeDevice refuses a block device that holds half an image, or that a guest is
// to write to while the host or another guest uses it: both would have their own
// idea of what is on it.
func judgeDevice(d vm.Disk) error {
	if !d.ReadOnly {
		if err := image.RefuseInUse(d.Volume.Path); err != nil {
			return err
		}
	}
	return image.RefuseUnfinished(d.Volume.Path)
}

// note makes an empty file that is there when it returns, whatever happens to
// the host.
func note(path string) error {
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	return errors.Join(syncFile(path), syncFile(filepath.Dir(path)))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// MakeFrom makes a volume that holds some bytes, which are on no other disk
// before.
func (s *Store) MakeFrom(ctx context.Context, v vm.Volume, content []byte) error {
	ctx, cancel := Bounded(ctx)
	defer cancel()
	pool, err := s.pool(v.Pool)
	if err != nil {
		return err
	}
	file, err := memfile.ReadOnly(v.Name, content)
	if err != nil {
		return err
	}
	defer file.Close()
	inspected, err := image.Inspect(ctx, file, image.Raw)
	if err != nil {
		return err
	}
	v.Size = inspected.Size
	return pool.Import(ctx, image.Copy{File: file, Image: inspected, To: v})
}

// since is a time that passed, as a person wants to read it.
func since(began time.Time) time.Duration {
	return time.Since(began).Round(100 * time.Millisecond)
}
