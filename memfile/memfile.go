// Package memfile makes files that are on no disk and have no path: for what is
// secret, and for programs that want a descriptor. They go when they are closed.
package memfile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Empty returns a file without content. Its name is for people who look at this process.
func Empty(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("making the file %s in memory: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Of returns a file with some content, which is read from its beginning.
func Of(name string, content []byte) (*os.File, error) {
	file, err := Empty(name)
	if err != nil {
		return nil, err
	}
	if _, err := file.WriteAt(content, 0); err != nil {
		file.Close()
		return nil, fmt.Errorf("writing the file %s in memory: %w", name, err)
	}
	return file, nil
}

// ReadOnly is Of for a file that nobody can write any more.
func ReadOnly(name string, content []byte) (*os.File, error) {
	written, err := Of(name, content)
	if err != nil {
		return nil, err
	}
	defer written.Close()
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", written.Fd()))
}
