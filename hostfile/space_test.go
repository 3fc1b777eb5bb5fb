package hostfile

import (
	"errors"
	"io/fs"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// A file system over a network may want 1 MiB at once, and count in 4 KiB.
func TestSpaceIsCountedInFragments(t *testing.T) {
	got := spaceOf(unix.Statfs_t{Bsize: 1 << 20, Frsize: 4096, Blocks: 1000, Bfree: 300, Bavail: 200, Flags: unix.ST_RDONLY})
	if want := (Space{Free: 200 * 4 * vm.KiB, Size: 1000 * 4 * vm.KiB, ReadOnly: true}); got != want {
		t.Errorf("the space is %+v, want %+v", got, want)
	}
}

func TestSpaceAtAPath(t *testing.T) {
	got, err := SpaceAt(t.TempDir())
	if err != nil || got.Size == 0 || got.Free > got.Size || got.ReadOnly {
		t.Errorf("the space of a temporary directory is %+v, %v", got, err)
	}
	if _, err := SpaceAt(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the space where nothing is: %v, want an error that says so", err)
	}
}
