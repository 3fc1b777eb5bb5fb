package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/turns"
)

// Digests identifies images by their content, and remembers what it has read:
// a file that was seen before, and was not written since, is not read again, and
// one that is being read is waited for.
type Digests struct {
	reading turns.Turns // by version and format: many tasks may name one image at once

	mu   sync.Mutex // guards seen
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
// 32 hex digits. progress is told how much is read, from 0 to 1, where it is
// read; nil: nobody asks.
func (d *Digests) Of(ctx context.Context, file *os.File, format string, progress func(done float64)) (string, error) {
	before, err := versionOf(file)
	if err != nil {
		return "", err
	}
	key := known{before, format}
	if digest, is := d.recall(key); is {
		return digest, nil
	}
	done, err := d.reading.Take(ctx, format+" "+before.String())
	if err != nil {
		return "", err
	}
	defer done()
	if digest, is := d.recall(key); is { // it was read meanwhile
		return digest, nil
	}

	sum, err := digestOf(ctx, file, before.size, format, progress)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", file.Name(), err)
	}
	if after, err := versionOf(file); err != nil || after != before {
		return "", errWritten(file)
	}
	digest := hex.EncodeToString(sum[:16])
	d.remember(key, digest)
	return digest, nil
}

func (d *Digests) recall(key known) (digest string, is bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	digest, is = d.seen[key]
	return digest, is
}

func (d *Digests) remember(key known, digest string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen == nil || len(d.seen) >= maxSeen {
		d.seen = make(map[known]string)
	}
	d.seen[key] = digest
}

// digestBlock is how much is hashed at once, and what has to be a hole to cost
// nothing.
const digestBlock = 1 << 20

// digestOf is SHA-256 over the format and the SHA-256 of each block of a file.
// That of a block of zeros is known: a hole takes no time, and is the same as
// zeros that are written.
func digestOf(ctx context.Context, file *os.File, size int64, format string, progress func(float64)) ([]byte, error) {
	whole := sha256.New()
	fmt.Fprintf(whole, "%s\x00", format)
	buffer := make([]byte, digestBlock)
	ofZeros := sha256.Sum256(buffer)
	data := int64(0) // where the next is, at the earliest
	for offset := int64(0); offset < size; offset += digestBlock {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if data <= offset {
			data = nextData(file, offset, size)
		}
		if data >= offset+digestBlock {
			whole.Write(ofZeros[:])
			continue
		}
		block := buffer[:min(digestBlock, size-offset)]
		if _, err := file.ReadAt(block, offset); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(block)
		whole.Write(sum[:])
		if progress != nil {
			progress(float64(offset+int64(len(block))) / float64(size))
		}
	}
	return whole.Sum(nil), nil
}

// nextData is where the data begins that is next in a file: at the offset itself
// where the file system does not tell.
func nextData(file *os.File, offset, size int64) int64 {
	at, err := file.Seek(offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // only a hole is left, of which the last block may be a part
		return max(offset, size/digestBlock*digestBlock)
	case err != nil:
		return offset
	}
	return at
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
