package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// fileID tells a file from all others that have been there: the number of one
// that is removed is given to another, its time of birth is not.
type fileID struct {
	inode uint64
	born  int64 // nanoseconds; 0 where the file system does not know
}

func idOf(file *os.File) (fileID, error) {
	var s unix.Statx_t
	err := unix.Statx(int(file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &s)
	return fileID{s.Ino, s.Btime.Sec*1e9 + int64(s.Btime.Nsec)}, err
}

// position is how far a log has been read.
type position struct {
	file   fileID
	offset int64
}

// positionFormat has a fixed width: it is overwritten in one write.
const positionFormat = "%020d %020d %020d\n"

// tail reads a log to which somebody writes, and which he renames and begins
// anew when it is full. It remembers on the disk how far it has read.
type tail struct {
	log   string
	file  *os.File // which pos is of; nil before the first read
	pos   position
	ahead int  // bytes that advance is told of and that are none of the log's
	gap   bool // a part of the log is gone that was not read, and nobody was told
	store *os.File
}

// openTail goes on where the last tail of the log stopped.
func openTail(log string) (*tail, error) {
	store, err := os.OpenFile(filepath.Join(filepath.Dir(log), "position"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	t := &tail{log: log, store: store}
	if _, err := fmt.Fscanf(store, positionFormat, &t.pos.file.inode, &t.pos.file.born, &t.pos.offset); err != nil {
		t.pos = position{} // the first, or the last one has not read anything
	}
	return t, nil
}

func (t *tail) close() {
	t.store.Close()
	if t.file != nil {
		t.file.Close()
	}
}

// read reads what comes next: nothing at all where nothing has come, or where it
// has found a gap, behind which it goes on. advance tells what of it is done with.
func (t *tail) read(buf []byte) (int, error) {
	if t.file == nil {
		if err := t.open(); err != nil || t.file == nil || t.gap {
			return 0, err
		}
	}
	for {
		full, err := t.isFull() // before the read: what was written until then is read
		if err != nil {
			return 0, err
		}
		n, err := t.file.ReadAt(buf, t.pos.offset)
		switch {
		case n > 0:
			return n, nil
		case !errors.Is(err, io.EOF):
			return 0, err
		case !full:
			return 0, nil
		}
		if err := t.next(); err != nil || t.gap {
			return 0, err
		}
	}
}

// advance notes that so many bytes were dealt with, for the next tail, too.
func (t *tail) advance(n int) {
	others := min(n, t.ahead)
	t.ahead -= others
	t.pos.offset += int64(n - others)
	t.save()
}

// save writes the position where the next tail finds it. Where it cannot, on a full
// disk for one, the next one repeats something.
func (t *tail) save() {
	_, _ = fmt.Fprintf(io.NewOffsetWriter(t.store, 0), positionFormat, t.pos.file.inode, t.pos.file.born, t.pos.offset)
}

// isFull tells whether nothing is written to the file any more.
func (t *tail) isFull() (bool, error) {
	mine, err := t.file.Stat()
	if err != nil {
		return false, err
	}
	current, err := os.Stat(t.log)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // it is being renamed, or all of it is removed
	}
	return err == nil && !os.SameFile(mine, current), err
}

// open takes up the file of the position; where there is none, the oldest.
func (t *tail) open() error {
	files, err := t.files()
	if err != nil || len(files) == 0 {
		return err
	}
	isFirst := t.pos == (position{})
	at := slices.IndexFunc(files, func(f file) bool { return f.id == t.pos.file })
	if at >= 0 {
		t.take(files, at, t.pos.offset)
		return nil
	}
	t.take(files, 0, 0)
	t.gap = !isFirst
	return nil
}

// next goes on to the file that was begun after this one.
func (t *tail) next() error {
	files, err := t.files()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(files, func(f file) bool { return f.id == t.pos.file })
	t.file.Close()
	t.file = nil
	t.take(files, at+1, 0)
	t.gap = at < 0
	return nil
}

// take goes on in one of some files, if there is one, and closes the others.
func (t *tail) take(files []file, at int, offset int64) {
	for i, f := range files {
		if i != at {
			f.Close()
			continue
		}
		t.file, t.pos = f.File, position{f.id, offset}
		t.save()
	}
}

// file is one of the files of a log.
type file struct {
	*os.File
	id fileID
}

// files opens the files of a log, the oldest first. They may be renamed at the
// same time, from each to the next older name: from the newest on, none is missed.
func (t *tail) files() (files []file, err error) {
	names, err := t.names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		opened, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		var id fileID
		if err == nil {
			id, err = idOf(opened)
		}
		if err != nil {
			t.take(files, -1, 0)
			return nil, err
		}
		if slices.ContainsFunc(files, func(f file) bool { return f.id == id }) {
			opened.Close()
			continue
		}
		files = append(files, file{opened, id})
	}
	slices.Reverse(files)
	return files, nil
}

// names lists the names that the files of a log may have, the newest first.
func (t *tail) names() ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(t.log))
	if err != nil {
		return nil, err
	}
	oldest := -1
	for _, e := range entries {
		suffix, is := strings.CutPrefix(e.Name(), filepath.Base(t.log)+".")
		if n, err := strconv.Atoi(suffix); is && err == nil {
			oldest = max(oldest, n)
		}
	}
	names := []string{t.log}
	for n := range oldest + 2 { // one more: they may be renamed now
		names = append(names, fmt.Sprintf("%s.%d", t.log, n))
	}
	return names, nil
}
