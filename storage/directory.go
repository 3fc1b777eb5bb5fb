package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// Directory is a pool whose volumes are files in a directory of the host.
type Directory struct {
	Host Libvirt
	Name string // libvirt's
	Path string // of the directory, absolute
}

// Ensure makes the directory, too.
func (d *Directory) Ensure(ctx context.Context) error {
	return d.Host.EnsureDirectoryPool(ctx, d.Name, d.Path)
}

// Source opens the volume and inspects it as a stranger's image: a guest may
// have written it.
func (d *Directory) Source(ctx context.Context, name, format string) (Source, error) {
	if err := RefuseName(name, false); err != nil {
		return Source{}, err
	}
	file, err := hostfile.Search{Roots: []string{d.Path}}.Open(name)
	if errors.Is(err, hostfile.ErrNotFound) {
		return Source{}, fmt.Errorf("storage pool %s at %s has no volume %q; virsh vol-list %s lists those it has: %w",
			d.Name, d.Path, name, d.Name, ErrNoVolume)
	}
	if err != nil {
		return Source{}, err
	}
	inspected, err := image.Inspect(ctx, file, format)
	if err != nil {
		file.Close()
		return Source{}, fmt.Errorf("volume %s: %w", file.Name(), err)
	}
	return Source{
		Volume: vm.Volume{Pool: d.Name, Name: name, Path: d.path(name), Format: inspected.Format, Size: inspected.Size},
		File:   file,
		Image:  &inspected,
	}, nil
}

func (d *Directory) path(name string) string { return filepath.Join(d.Path, name) }

// pathOf is where a volume is of which the name may be all that is known.
func (d *Directory) pathOf(v vm.Volume) string { return cmp.Or(v.Path, d.path(v.Name)) }

// holds tells whether a file is in the directory, or below it.
func (d *Directory) holds(file string) bool {
	real, err := filepath.EvalSymlinks(d.Path)
	return err == nil && strings.HasPrefix(file, real+"/")
}

// Exists looks at the directory, not at libvirt's list of it, which may be old.
func (d *Directory) Exists(_ context.Context, name string) (bool, error) {
	_, err := os.Stat(d.path(name))
	if !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	if _, err := os.Stat(d.Path); err != nil {
		return false, fmt.Errorf("looking for volume %s of storage pool %s at %s: %w", name, d.Name, d.Path, ErrAway)
	}
	return false, nil
}

// Create refuses a volume that is to be allocated in full and does not fit.
func (d *Directory) Create(ctx context.Context, v vm.Volume) error {
	if !v.Sparse {
		if err := d.roomFor(v.Size); err != nil {
			return err
		}
	}
	return d.Host.CreateVolume(ctx, v, nil)
}

// Import refuses what does not fit before it copies a byte.
func (d *Directory) Import(ctx context.Context, c image.Copy) error {
	if err := d.roomForImage(ctx, c); err != nil {
		return err
	}
	if err := d.Host.CreateVolume(ctx, c.To, nil); err != nil {
		return err
	}
	err := image.Fill(ctx, c)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Others write to the pool, too.
	needs, unknown := image.Needs(ctx, c.File, c.Image, c.To)
	if full := d.roomFor(needs - min(needs, allocated(c.To.Path))); unknown == nil && full != nil {
		return fmt.Errorf("%w (%w)", full, err)
	}
	return err
}

// roomForImage tells whether an image fits into the directory. It looks at it as
// closely as it takes to know.
func (d *Directory) roomForImage(ctx context.Context, c image.Copy) error {
	if d.roomFor(image.AtMost(c.Image, c.To)) == nil {
		return nil
	}
	needs, err := image.Needs(ctx, c.File, c.Image, c.To)
	if err != nil {
		return err
	}
	full := d.roomFor(needs)
	if full == nil || !c.To.Sparse || c.Image.Format != image.Raw {
		return full
	}
	if needs, err = image.NeedsOfData(ctx, c.File, c.Image, c.To); err != nil {
		return err
	}
	return d.roomFor(needs)
}

// roomFor tells whether so many bytes fit into the directory.
func (d *Directory) roomFor(needs vm.Bytes) error {
	space, err := hostfile.SpaceAt(d.Path)
	if err != nil {
		return fmt.Errorf("storage pool %s: %w", d.Name, err)
	}
	if needs > space.Free {
		return fmt.Errorf("storage pool %s at %s is full: %s (%d bytes) are needed, %s (%d bytes) are free; "+
			"make room there, or name another pool", d.Name, d.Path, needs, uint64(needs), space.Free, uint64(space.Free))
	}
	return nil
}

// allocated is how much of the disk a file takes.
func allocated(path string) vm.Bytes {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0
	}
	return vm.Bytes(s.Blocks) * 512
}

// Overlay makes a qcow2 volume with its parent as its backing file.
func (d *Directory) Overlay(ctx context.Context, v, parent vm.Volume) error {
	return d.Host.CreateVolume(ctx, v, &parent)
}

// Rename writes the volume to the disk first: the name promises that it is
// whole.
func (d *Directory) Rename(ctx context.Context, v vm.Volume, to string) error {
	path := d.pathOf(v)
	err := syncFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("volume %s of storage pool %s: %w", v.Name, d.Name, ErrNoVolume)
	}
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, filepath.Join(filepath.Dir(path), to), unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, fs.ErrExist) {
		err = ErrExist
	}
	if err == nil {
		err = syncFile(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("renaming volume %s of storage pool %s to %s: %w", v.Name, d.Name, to, err)
	}
	d.Host.RefreshPool(ctx, d.Name)
	return nil
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// Remove needs the name of the volume alone, or its path where that is not in
// the directory.
func (d *Directory) Remove(ctx context.Context, v vm.Volume) error {
	v.Path = d.pathOf(v)
	return d.Host.RemoveVolume(ctx, v)
}

// List reads the directory.
func (d *Directory) List(context.Context) ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return nil, fmt.Errorf("listing storage pool %s: %w", d.Name, err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Used is noted as the time of the base's last modification: nothing else
// modifies it.
func (d *Directory) Used(_ context.Context, base string) error {
	return os.Chtimes(d.path(base), time.Time{}, time.Now())
}

// LastUsed reads what Used noted.
func (d *Directory) LastUsed(_ context.Context, base string) (time.Time, error) {
	info, err := os.Stat(d.path(base))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, ErrNoVolume
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// RemoveUnused looks into every volume of the pool for one that overlays this
// one, whoever made it.
func (d *Directory) RemoveUnused(ctx context.Context, name string) error {
	volume, err := os.Stat(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	others, err := d.List(ctx)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other == name || rawOfVM(other) {
			continue
		}
		parent, err := d.parentOf(other)
		if err != nil {
			return err
		}
		if d.leadsTo(parent, name, volume) {
			return fmt.Errorf("volume %s of storage pool %s, by %s: %w", name, d.Name, other, ErrInUse)
		}
	}
	return d.Remove(ctx, vm.Volume{Pool: d.Name, Name: name})
}

// rawOfVM tells a volume whose first bytes are a guest's, which may write there
// that it overlays anything.
func rawOfVM(name string) bool {
	return isPrivate(name) && !strings.HasSuffix(name, ".qcow2")
}

// leadsTo tells whether what a volume overlays is the one of a name.
func (d *Directory) leadsTo(parent, name string, volume fs.FileInfo) bool {
	if strings.HasPrefix(parent, "json:") { // described, rather than named
		return strings.Contains(parent, name)
	}
	found, err := os.Stat(parent)
	return err == nil && os.SameFile(found, volume)
}

// parentOf returns the path of the file that a volume overlays, or QEMU's "json:"
// description of it; "" for none.
func (d *Directory) parentOf(name string) (string, error) {
	file, err := os.Open(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil // it went in between
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	parent, err := image.BackingFile(file)
	parent = strings.TrimPrefix(parent, "file:")
	if err != nil || parent == "" || filepath.IsAbs(parent) || strings.HasPrefix(parent, "json:") {
		return parent, err
	}
	return d.path(parent), nil
}
