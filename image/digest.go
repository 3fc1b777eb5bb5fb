package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// Digests identifies images by their content, and remembers what it has read:
// a file that was seen before, and was not written since, is not read again.
type Digests struct {
	mu   sync.Mutex
	seen map[known]string
}

// version is a file as it was at a time.
type version struct {
	device, inode uint64
	size          int64
	modified      syscall.Timespec
	changed       syscall.Timespec // no program can set this one
}

func (v version) String() string {
	return fmt.Sprintf("%d:%d:%d:%d.%d:%d.%d", v.device, v.inode, v.size,
		v.modified.Sec, v.modified.Nsec, v.changed.Sec, v.changed.Nsec)
}

// known is what a digest is of.
type known struct {
	version
	format string
}

// Of returns what identifies the content of an image, as read with a format:
// 32 hex digits.
func (d *Digests) Of(ctx context.Context, file *os.File, format string) (string, error) {
	before, err := versionOf(file)
	if err != nil {
		return "", err
	}
	key := known{before, format}
	d.mu.Lock()
	digest, ok := d.seen[key]
	d.mu.Unlock()
	if ok {
		return digest, nil
	}

	hash := sha256.New()
	fmt.Fprintf(hash, "%s\x00", format)
	if _, err := io.Copy(hash, &contextReader{ctx, io.NewSectionReader(file, 0, before.size)}); err != nil {
		return "", fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	if after, err := versionOf(file); err != nil || after != before {
		return "", errWritten(file)
	}
	digest = hex.EncodeToString(hash.Sum(nil)[:16])

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) >= maxSeen {
		d.seen = make(map[known]string)
	}
	d.seen[key] = digest
	return digest, nil
}

// maxSeen bounds what is remembered: allocations come and go with images of
// their own.
const maxSeen = 10_000

// errWritten says that an image is not what it was when it was looked at.
func errWritten(file *os.File) error {
	return fmt.Errorf("%s was written while it was read; let whatever writes it end first", file.Name())
}

func versionOf(file *os.File) (version, error) {
	info, err := file.Stat()
	if err != nil {
		return version{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return version{}, fmt.Errorf("%s: the system tells nothing of the file", file.Name())
	}
	return version{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

// contextReader ends a long read with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
