package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// rawCopy copies bytes of one file to the same place of another.
type rawCopy struct {
	from, to *os.File
	// zero makes a range of the target read as zeros, where the image has a
	// hole. nil: what was not written reads as zeros, and zeros are not written.
	zero func(ctx context.Context, offset, length int64) error
	// done is told how much was dealt with, holes and all.
	done func(bytes int64)
}

const (
	// piece is how much is copied between two looks at the context.
	piece = 8 << 20
	// block is how much has to be zeros to become a hole.
	block = 64 << 10
)

// run copies from start to end.
func (r rawCopy) run(ctx context.Context, start, end int64) error {
	return extents(r.from, start, end, func(offset, length int64, hole bool) error {
		if hole {
			if r.zero != nil {
				if err := r.zero(ctx, offset, length); err != nil {
					return err
				}
			}
			r.done(offset + length - start)
			return ctx.Err()
		}
		for stop := offset + length; offset < stop; {
			if err := ctx.Err(); err != nil {
				return err
			}
			next := min(offset+piece, stop)
			if err := r.copyData(offset, next); err != nil {
				return err
			}
			offset = next
			r.done(offset - start)
		}
		return nil
	})
}

// copyData copies what the image has allocated, in as few calls as its zeros
// allow.
func (r rawCopy) copyData(offset, end int64) error {
	if r.zero != nil {
		return r.send(offset, end)
	}
	return r.eachData(offset, end, r.send)
}

// eachData calls each for the parts of a range that are not zeros.
func (r rawCopy) eachData(offset, end int64, each func(offset, end int64) error) error {
	for offset < end {
		data, err := r.skip(offset, end, true)
		if err != nil {
			return err
		}
		if offset, err = r.skip(data, end, false); err != nil {
			return err
		}
		if err := each(data, offset); err != nil {
			return err
		}
	}
	return nil
}

// skip returns where the blocks that are zeros, or are not, end.
func (r rawCopy) skip(offset, end int64, zeros bool) (int64, error) {
	buffer := make([]byte, block)
	for offset < end {
		length := min(block, end-offset)
		// The start of a block tells of most that they are not zeros.
		for _, n := range []int64{min(512, length), length} {
			if _, err := r.from.ReadAt(buffer[:n], offset); err != nil {
				return 0, fmt.Errorf("reading %s: %w", r.from.Name(), err)
			}
			if !isZero(buffer[:n]) {
				if zeros {
					return offset, nil
				}
				break
			}
			if n == length && !zeros {
				return offset, nil
			}
		}
		offset += length
	}
	return end, nil
}

// send has the kernel copy a range. It is as fast as copy_file_range, which
// would share the blocks with the image where the file system can, and faster
// and steadier than to read and write, in pieces of any size.
func (r rawCopy) send(offset, end int64) error {
	if offset == end {
		return nil
	}
	if _, err := r.to.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	for offset < end {
		n, err := unix.Sendfile(int(r.to.Fd()), int(r.from.Fd()), &offset, int(end-offset))
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EINVAL): // not every file system can
			_, err := io.CopyBuffer(io.NewOffsetWriter(r.to, offset),
				struct{ io.Reader }{io.NewSectionReader(r.from, offset, end-offset)}, make([]byte, 256<<10))
			return err
		case err != nil:
			return err
		case n == 0:
			return fmt.Errorf("reading %s: %w", r.from.Name(), io.ErrUnexpectedEOF)
		}
	}
	return nil
}

var zeros [block]byte

func isZero(data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), len(zeros))
		if !bytes.Equal(data[:n], zeros[:n]) {
			return false
		}
		data = data[n:]
	}
	return true
}

// extents calls each for the data and the holes of a file, in order. A file
// system that does not tell holes has none.
func extents(file *os.File, start, end int64, each func(offset, length int64, hole bool) error) error {
	for start < end {
		data, err := file.Seek(start, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // only a hole is left
			data = end
		case err != nil:
			return each(start, end-start, false)
		}
		data = min(data, end)
		if data > start {
			if err := each(start, data-start, true); err != nil {
				return err
			}
		}
		if data == end {
			return nil
		}
		hole, err := file.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		hole = min(hole, end)
		if err := each(data, hole-data, false); err != nil {
			return err
		}
		start = hole
	}
	return nil
}
