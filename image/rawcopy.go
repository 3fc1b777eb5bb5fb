package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
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
	// piece is how much is copied between two looks at the context. Of 128 KiB
	// to 4 MiB, and of copy_file_range and sendfile, 1 MiB by read and write
	// was the fastest.
	piece = 1 << 20
	// block is how much has to be zeros to become a hole.
	block = 64 << 10
)

// run copies from start to end. To read and write at the same time, in two
// threads, is slower: the data has to go from one CPU's cache to the other's.
func (r rawCopy) run(ctx context.Context, start, end int64) error {
	buffer := make([]byte, piece)
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
			part := buffer[:min(piece, stop-offset)]
			if _, err := r.from.ReadAt(part, offset); err != nil {
				return fmt.Errorf("reading %s: %w", r.from.Name(), err)
			}
			if err := r.write(part, offset); err != nil {
				return err
			}
			offset += int64(len(part))
			r.done(offset - start)
		}
		return nil
	})
}

// write writes data, in as few calls as its zeros allow.
func (r rawCopy) write(data []byte, offset int64) error {
	for len(data) > 0 {
		skip, n := 0, len(data)
		if r.zero == nil {
			skip, n = split(data)
		}
		if n > skip {
			if _, err := r.to.WriteAt(data[skip:n], offset+int64(skip)); err != nil {
				return err
			}
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// split finds the first data between zeros, by blocks: data[skip:n] is to be
// written.
func split(data []byte) (skip, n int) {
	for skip < len(data) && isZero(data[skip:min(skip+block, len(data))]) {
		skip = min(skip+block, len(data))
	}
	for n = skip; n < len(data) && !isZero(data[n:min(n+block, len(data))]); {
		n = min(n+block, len(data))
	}
	return skip, n
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

// allocated is what the data of a raw image takes in a file of a format.
func allocated(file *os.File, size int64, format string) (vm.Bytes, error) {
	unit := int64(4096)
	if format == Qcow2 {
		unit = 64 << 10 // a cluster
	}
	var total, counted int64 // units before counted are in total
	err := extents(file, 0, size, func(offset, length int64, hole bool) error {
		if hole {
			return nil
		}
		first, last := max(offset/unit, counted), (offset+length+unit-1)/unit
		total += max(0, last-first) * unit
		counted = last
		return nil
	})
	return vm.Bytes(total), err
}
