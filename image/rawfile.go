package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// fillRaw copies a raw image into a raw volume that is a file. Where the volume
// may be sparse it shares the image's blocks, if the file system can; one that
// is not is to have blocks of its own, which it has already.
func (c Copy) fillRaw(ctx context.Context) error {
	to, err := os.OpenFile(c.To.Path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer to.Close()
	info, err := to.Stat()
	if err != nil {
		return err
	}
	if vm.Bytes(info.Size()) < c.Image.Size {
		return errTooSmall(c.To.Path, vm.Bytes(info.Size()), c.Image)
	}
	start := int64(0)
	if c.To.Sparse {
		start = c.clone(to)
	}
	if err := c.copyRaw(ctx, rawCopy{from: c.File, to: to}, start); err != nil {
		return err
	}
	return to.Close()
}

// clone has a file share the image's blocks, and returns where what could not
// be shared begins: the last block that is not whole, or all where the file
// system cannot do it.
func (c Copy) clone(to *os.File) int64 {
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(to.Fd()), &system); err != nil || system.Bsize <= 0 {
		return 0
	}
	whole := uint64(c.Image.Size) / uint64(system.Bsize) * uint64(system.Bsize)
	if whole == 0 { // to FICLONERANGE that is all
		return 0
	}
	request := unix.FileCloneRange{Src_fd: int64(c.File.Fd()), Src_length: whole}
	if err := unix.IoctlFileCloneRange(int(to.Fd()), &request); err != nil {
		return 0
	}
	return int64(whole)
}

// copyRaw copies a raw image from an offset to its end.
func (c Copy) copyRaw(ctx context.Context, r rawCopy, start int64) error {
	size := int64(c.Image.Size)
	r.done = func(bytes int64) {
		if c.Progress != nil {
			c.Progress(float64(bytes) / float64(size-start))
		}
	}
	err := r.run(ctx, start, size)
	if err := unwritten(c.File, c.Image); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the copy of %s was given up: %w", c.File.Name(), context.Cause(ctx))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errWritten(c.File)
	case err != nil:
		return fmt.Errorf("copying %s to %s: %w", c.File.Name(), r.to.Name(), err)
	}
	if c.Progress != nil {
		c.Progress(1)
	}
	return nil
}

// wholeSectors is the size of a disk that holds so much.
func wholeSectors(size vm.Bytes) int64 { return (int64(size) + sector - 1) &^ (sector - 1) }

const sector = 512

func errTooSmall(where string, size vm.Bytes, image vm.Image) error {
	return fmt.Errorf("%s is too small for the image %s, which is a disk of %s: it lacks %s",
		where, image.Path, image.Size, image.Size-size)
}
