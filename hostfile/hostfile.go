// Package hostfile opens the files of the host that a job may name: images and
// user data. What a path leads to is judged after it was opened, so that no
// "..", no symlink and no swap between check and use leads out of the
// directories that are allowed. It also tells how much room there is where they are.
package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Search tells where a job's files may be.
type Search struct {
	// Roots are the directories that a file has to be in.
	Roots []string
	// Places are the directories that a name is looked for below, in order; nil:
	// the roots.
	Places []string
	// Guest tells what a directory of the guest is on the host: a job may name
	// a file as its guest sees it. {"/local": "/…/alloc-id/task/local"}
	Guest map[string]string
}

// Errors that say why a file cannot be had; the error that Open returns says
// it in full.
var (
	ErrNotFound = errors.New("no such file")
	ErrOutside  = errors.New("outside of the directories that tasks may use")
)

// Open opens a file for reading by an absolute path, a path as the guest sees
// it, or a path below one of the places. The caller closes it.
func (s Search) Open(name string) (*os.File, error) {
	var refused error
	for _, path := range s.candidates(name) {
		found, err := locate(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		defer found.Close()
		real, err := s.judge(found)
		if err == nil {
			return openFound(found, path)
		}
		if refused == nil {
			refused = fmt.Errorf("%q leads to %s, %w: %s", name, real, err, strings.Join(s.Roots, ", "))
		}
	}
	if refused != nil {
		return nil, refused
	}
	return nil, fmt.Errorf("%q: %w in %s", name, ErrNotFound, strings.Join(s.places(), ", "))
}

func (s Search) places() []string {
	if s.Places == nil {
		return s.Roots
	}
	return s.Places
}

// candidates lists the places where a name may be meant to be.
func (s Search) candidates(name string) []string {
	var paths []string
	if filepath.IsAbs(name) {
		paths = append(paths, name)
		for guest, host := range s.Guest {
			if rest, below := strings.CutPrefix(filepath.Clean(name), guest+"/"); below {
				paths = append(paths, filepath.Join(host, rest))
			}
		}
	}
	for _, place := range s.places() {
		paths = append(paths, filepath.Join(place, name))
	}
	return paths
}

// locate finds what a path leads to without opening it: to open a device or a
// FIFO may do something already.
func locate(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openFound opens for reading what locate found, if it is a regular file.
func openFound(found *os.File, path string) (*os.File, error) {
	info, err := found.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	fd, err := unix.Open(descriptor(found), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// descriptor is the path of an open file that no rename changes.
func descriptor(file *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", file.Fd()) }

// Real returns the path of an open file that no symlink is part of.
func Real(file *os.File) (string, error) { return os.Readlink(descriptor(file)) }

// judge returns where an open file really is, and ErrOutside if that is not
// below a root.
func (s Search) judge(file *os.File) (string, error) {
	real, err := Real(file)
	if err != nil {
		return "", err
	}
	for _, root := range s.Roots {
		root, err := filepath.EvalSymlinks(root)
		if err != nil {
			continue // a root that is not there holds nothing
		}
		if root == "/" || strings.HasPrefix(real, root+"/") {
			return real, nil
		}
	}
	return real, ErrOutside
}
