package hostfile

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// Space is what a file system has room for.
type Space struct {
	// Free is what everyone may use: QEMU does not run as root, as a rule.
	Free     vm.Bytes
	Size     vm.Bytes
	ReadOnly bool
}

// SpaceAt returns that of the file system on which a path is.
func SpaceAt(path string) (Space, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Space{}, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return spaceOf(s), nil
}

// spaceOf counts in the unit of statfs, which is the fragment: the size of a block
// says how much is best written at once, and may be many of these.
//
// See statvfs(3).
func spaceOf(s unix.Statfs_t) Space {
	unit := vm.Bytes(s.Frsize)
	return Space{Free: vm.Bytes(s.Bavail) * unit, Size: vm.Bytes(s.Blocks) * unit, ReadOnly: s.Flags&unix.ST_RDONLY != 0}
}
