package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// clockTick is more than what the kernel's clock of file times advances by at
// once: 10 ms where it ticks slowest.
const clockTick = 20 * time.Millisecond

// settle returns the version of a file that no later write leaves as it is. A
// file's times alone do not see all: neither a second write within one tick of
// the clock, nor one by a program that has mapped the file and has written to
// the same page before, until that page goes to the disk.
func settle(ctx context.Context, file *os.File) (version, error) {
	before, err := versionOf(file)
	if err != nil {
		return version{}, err
	}
	// Where this is negative, the clock is another host's.
	if age := time.Since(time.Unix(before.changed.Unix())); age >= 0 && age < clockTick {
		tick := time.NewTimer(clockTick - age)
		defer tick.Stop()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return version{}, context.Cause(ctx)
		}
	}
	if inMemory(file) {
		return before, hold(file)
	}
	// Pages that are written out are write-protected, and the next store to one
	// sets the times. With nothing to write this returns at once.
	const writeOut = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := unix.SyncFileRange(int(file.Fd()), 0, 0, writeOut); err != nil {
		return version{}, fmt.Errorf("writing %s out: %w", file.Name(), err)
	}
	return before, nil
}

// unwritten refuses an image that is not what it was when it was inspected.
func unwritten(file *os.File, image vm.Image) error {
	if now, err := versionOf(file); err != nil || now.String() != image.Version || inMemory(file) && !held(file) {
		return errWritten(file)
	}
	return nil
}

// inMemory tells a file system that has no disk to write to. Stores to mapped
// pages never set the times there.
func inMemory(file *os.File) bool {
	var system unix.Statfs_t
	err := unix.Fstatfs(int(file.Fd()), &system)
	return err == nil && (system.Type == unix.TMPFS_MAGIC || system.Type == unix.RAMFS_MAGIC)
}

// hold takes a lease on a file until it is closed: there is none while anybody
// has the file open for writing, and whoever opens it so breaks the lease.
func hold(file *os.File) error {
	_, err := unix.FcntlInt(file.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%s is open for writing; let whatever writes it end first", file.Name())
	case err != nil:
		return fmt.Errorf("taking a lease on %s, which is in memory: %w", file.Name(), err)
	}
	return nil
}

// held tells whether a lease is not broken, nor about to be.
func held(file *os.File) bool {
	lease, err := unix.FcntlInt(file.Fd(), unix.F_GETLEASE, 0)
	return err == nil && lease == unix.F_RDLCK
}
