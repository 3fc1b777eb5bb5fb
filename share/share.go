// Package share shows directories of the host to a guest: each is mounted on
// the host first, read-only if the guest is not to write to it, and that mount
// is what QEMU or virtiofsd is given, so that nothing the guest does can change
// that. The mounts of a VM are
// in a directory of its name, by which they are found again.
package share

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"nomad-driver-virt/vm"
)

// Root is where the mounts of all VMs are, in a directory for each.
const Root = "/run/nomad-driver-virt"

// Mount returns where the directory that a VM knows by a tag is mounted on the
// host.
func Mount(vmName, tag string) string {
	return filepath.Join(Root, vmName, tag)
}

// Attach mounts the directories of a VM. A failure leaves those before it
// mounted: Detach undoes them.
func Attach(shares []vm.Share) error {
	for _, s := range shares {
		if err := makeMountPoint(s); err != nil {
			return fmt.Errorf("making a mount point for %s: %w", s.Target, err)
		}
		if err := bind(s); err != nil {
			return fmt.Errorf("mounting %s at %s: %w", s.Source, s.Mount, err)
		}
	}
	return nil
}

// makeMountPoint makes the directories that lead to a mount. They keep other
// users of the host out, as Nomad's own data directory does, as far as who reads
// the mount allows: virtiofsd is root, QEMU need not be.
func makeMountPoint(s vm.Share) error {
	mode := fs.FileMode(0o700)
	if s.Type == vm.NineP {
		mode = 0o711
	}
	if err := os.MkdirAll(Root, 0o711); err != nil {
		return err
	}
	return os.MkdirAll(s.Mount, mode)
}

// bind takes two steps: the kernel ignores the other flags of a mount that
// binds.
func bind(s vm.Share) error {
	if err := syscall.Mount(s.Source, s.Mount, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	var flags uintptr = syscall.MS_REMOUNT | syscall.MS_BIND | syscall.MS_NOSUID | syscall.MS_NODEV
	if s.ReadOnly {
		flags |= syscall.MS_RDONLY
	}
	return syscall.Mount("", s.Mount, "", flags, "")
}

// Detach undoes Attach for all directories of a VM, known only by its name.
// Where nothing is mounted, that is no error.
func Detach(vmName string) error {
	if vmName == "" || vmName != filepath.Base(vmName) {
		return fmt.Errorf("%q is no name of a VM", vmName)
	}
	dir := filepath.Join(Root, vmName)
	mounts, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for the mounts of VM %s: %w", vmName, err)
	}
	for _, m := range mounts {
		if err := unmount(filepath.Join(dir, m.Name())); err != nil {
			return fmt.Errorf("unmounting a directory of VM %s: %w", vmName, err)
		}
	}
	return os.Remove(dir)
}

// unmount takes away all that is mounted at a directory, and the directory,
// which is empty then: whatever still is in it belongs to somebody.
func unmount(dir string) error {
	const noFollow = 0x8 // UMOUNT_NOFOLLOW
	for {
		err := syscall.Unmount(dir, syscall.MNT_DETACH|noFollow)
		if errors.Is(err, syscall.EINVAL) { // nothing is mounted there
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &os.PathError{Op: "rmdir", Path: dir, Err: err}
			}
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: dir, Err: err}
		}
	}
}
