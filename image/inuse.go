package image

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// QEMU locks single bytes of what it has open, one for each thing that it does
// or forbids others to do; these are all of them.
//
// See RAW_LOCK_PERM_BASE and RAW_LOCK_SHARED_BASE in QEMU's block/file-posix.c
const (
	qemuLocks      = 100
	qemuLocksCount = 200
)

// refuseOpenInQEMU refuses a device that a QEMU, or one of its programs, has
// open. To open it exclusively does not tell: QEMU does not.
func refuseOpenInQEMU(file *os.File) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: qemuLocks, Len: qemuLocksCount}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &lock); err != nil {
		return fmt.Errorf("looking for QEMU's locks on %s: %w", file.Name(), err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("the block device %s is in use: a VM has it open, and two would spoil what is on it; end that VM first", file.Name())
	}
	return nil
}

// RefuseInUse returns an error if the host or a VM uses a block device.
func RefuseInUse(path string) error {
	// Read-only: when a device is closed that was open for writing, udev has the
	// host look for what is on it.
	device, err := openAlone(path, unix.O_RDONLY)
	if err != nil {
		return err
	}
	return device.Close()
}

// RefuseUnfinished returns an error if an image was being written to a block
// device, and that did not end: no guest is to boot from half an image. It does
// not take the device from whoever uses it.
func RefuseUnfinished(path string) error {
	device, err := os.Open(path)
	if err != nil {
		return err
	}
	defer device.Close()
	first := make([]byte, sector)
	if _, err := io.ReadFull(device, first); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	if bytes.Equal(first, mark) {
		return fmt.Errorf("an image was being written to %s, which did not end; name the image in source to have it written again", path)
	}
	return nil
}
