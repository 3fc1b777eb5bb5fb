package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

const (
	// importTimeout bounds the copying of one image.
	importTimeout = 30 * time.Minute
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
		if err := copyImage(ctx, pool.Import, d, d.Volume, source, tell); err != nil {
			return err
		}
		tell("Copied image %s to disk %s in %s", d.Image.Path, d.Device, since(began))
		return nil
	}
	return pool.Create(ctx, d.Volume)
}

// overlay makes a disk's base if the pool does not have it, and the disk on it.
// Whoever needs a base that is being made waits for it; nobody removes it
// meanwhile. A base has its name when it is complete, and not before.
func (s *Store) overlay(ctx context.Context, pool Pool, d vm.Disk, source *os.File, tell Tell) error {
	done, err := s.bases.Take(ctx, baseKey(d.Base.Pool, d.Base.Name))
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
		if err := copyImage(ctx, pool.Import, d, d.Base.Staging, source, tell); err != nil {
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

func baseKey(pool, name string) string { return pool + "/" + name }

// copyImage copies the image of a disk by one of the ways there are, if it is
// in order.
func copyImage(ctx context.Context, way func(context.Context, image.Copy) error, d vm.Disk, to vm.Volume, source *os.File, tell Tell) error {
	ctx, cancel := context.WithTimeoutCause(ctx, importTimeout, fmt.Errorf("it took longer than %s", importTimeout))
	defer cancel()
	if err := image.Check(ctx, source, *d.Image); err != nil {
		return err
	}
	return way(ctx, image.Copy{
		File:     source,
		Image:    *d.Image,
		To:       to,
		Progress: quarters(time.Now(), fmt.Sprintf("Copying image %s for disk %s", d.Image.Path, d.Device), tell),
	})
}

// quarters tells each quarter of what began at a time and takes long. Nomad
// keeps few events.
func quarters(began time.Time, what string, tell Tell) func(float64) {
	told := 0.0
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
		return image.RefuseUnfinished(d.Volume.Path)
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
	if err := copyImage(ctx, device.Fill, d, d.Volume, source, tell); err != nil {
		return err
	}
	if once {
		// Before this no guest has run on it: to write it twice loses nothing.
		if err := os.WriteFile(d.OverwriteOnce, nil, 0o600); err != nil {
			return err
		}
	}
	tell("Wrote image %s to disk %s, %s, in %s", d.Image.Path, d.Device, device.Path, since(began))
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// MakeFrom makes a volume that holds some bytes, which are on no other disk
// before.
func (s *Store) MakeFrom(ctx context.Context, v vm.Volume, content []byte) error {
	pool, err := s.pool(v.Pool)
	if err != nil {
		return err
	}
	file, err := inMemory(v.Name, content)
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

// inMemory returns a file that is on no disk and that nobody can write any more.
func inMemory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	written := os.NewFile(uintptr(fd), name)
	defer written.Close()
	if _, err := written.Write(content); err != nil {
		return nil, err
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
}

// since is a time that passed, as a person wants to read it.
func since(began time.Time) time.Duration {
	return time.Since(began).Round(100 * time.Millisecond)
}
