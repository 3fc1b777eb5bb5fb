// Package hostfile opens the files of the host that a job may name: images and
// user data. What a path leads to is judged after it was opened, so that no
// "..", no symlink and no swap between check and use leads out of the
// directories that are allowed.
package hostfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Search tells where a job's files may be.
type Search struct {
	// Roots are the directories that a file has to be in, searched in order.
	Roots []string
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
// it, or a path below one of the roots. The caller closes it.
func (s Search) Open(name string) (*os.File, error) {
	var refused error
	for _, path := range s.candidates(name) {
		file, err := openRegular(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		real, err := s.judge(file)
		if err == nil {
			return file, nil
		}
		file.Close()
		if refused == nil {
			refused = fmt.Errorf("%q leads to %s, %w: %s", name, real, err, strings.Join(s.Roots, ", "))
		}
	}
	if refused != nil {
		return nil, refused
	}
	return nil, fmt.Errorf("%q: %w in %s", name, ErrNotFound, strings.Join(s.Roots, ", "))
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
	for _, root := range s.Roots {
		paths = append(paths, filepath.Join(root, name))
	}
	return paths
}

// openRegular opens what it finds without waiting for a writer, should it be a
// FIFO, and refuses what is no regular file.
func openRegular(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// judge returns where an open file really is, and ErrOutside if that is not
// below a root.
func (s Search) judge(file *os.File) (string, error) {
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
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
