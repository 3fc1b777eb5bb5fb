package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/memfile"
	"nomad-driver-virt/vm"
)

// Device is a block device that nobody else uses: it is not mounted, not part
// of another device, and not open in another plugin.
type Device struct {
	Path string
	Size vm.Bytes
	file *os.File
}

// State is what a block device holds.
type State string

// The states of a block device.
const (
	// Blank: its first and its last MiB are zeros, so that it has no partition
	// table, and no file system that has a name at either end.
	Blank State = "blank"
	// Unfinished: a Fill of it has begun and has not ended.
	Unfinished State = "unfinished"
	// HoldsData: it holds what somebody may want to keep.
	HoldsData State = "holds data"
)

// edge is how much of a device's ends tells what it holds, and how much of an
// image is written last: partition tables, and the names of file systems.
const edge = int64(vm.MiB)

// mark is the first sector of a device that is being filled.
var mark = append([]byte("nomad-driver-virt: an image is being written to this device, which is not complete\n"),
	make([]byte, sector)...)[:sector]

// OpenDevice opens a block device for this process alone. The caller closes it.
func OpenDevice(path string) (*Device, error) {
	file, err := openAlone(path, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil && size == 0 {
		err = fmt.Errorf("the block device %s is of no size", path)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &Device{Path: path, Size: vm.Bytes(size), file: file}, nil
}

// openAlone opens a block device that nobody else uses.
func openAlone(path string, mode int) (*os.File, error) {
	// To open what is no device may do something already.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !isBlockDevice(info) {
		return nil, fmt.Errorf("%s is no block device", path)
	}
	fd, err := unix.Open(path, mode|unix.O_EXCL|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("the block device %s is in use on the host: it is mounted, open elsewhere, or part of another device, "+
			"such as a volume group of the guest's that the host has activated; end that first, `lsblk %s` may tell what it is", path, path)
	case err != nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), path)
	if info, err = file.Stat(); err == nil && !isBlockDevice(info) {
		err = fmt.Errorf("%s is no block device", path)
	}
	if err == nil {
		err = refuseOpenInQEMU(file)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func isBlockDevice(info fs.FileInfo) bool {
	return info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice
}

// Close lets others use the device.
func (d *Device) Close() error { return d.file.Close() }

// State tells what the device holds, by its first and its last MiB.
func (d *Device) State() (State, error) {
	size := int64(d.Size)
	first, last := make([]byte, min(edge, size)), make([]byte, min(edge, size))
	if _, err := d.file.ReadAt(first, 0); err != nil {
		return "", fmt.Errorf("reading %s: %w", d.Path, err)
	}
	if _, err := d.file.ReadAt(last, size-int64(len(last))); err != nil {
		return "", fmt.Errorf("reading %s: %w", d.Path, err)
	}
	switch {
	case bytes.HasPrefix(first, mark):
		return Unfinished, nil
	case isZero(first) && isZero(last):
		return Blank, nil
	}
	return HoldsData, nil
}

// Fill writes an image to the device, whatever it holds; c.To is not used.
//
// The device is Unfinished from before the first byte is changed until all of
// it is on the disk, whenever this ends: a mark takes the place of the first
// sector, which is written last. What was behind the image's end stays, but for
// the last MiB: the second partition table of another disk would be there.
func (d *Device) Fill(ctx context.Context, c Copy) error {
	size := wholeSectors(c.Image.Size)
	if vm.Bytes(size) > d.Size {
		return errTooSmall(d.Path, d.Size, c.Image)
	}
	if err := unwritten(c.File, c.Image); err != nil {
		return err
	}
	if err := d.writeSynced(mark, 0); err != nil {
		return err
	}
	if err := d.fillBehindMark(ctx, c, size); err != nil {
		return fmt.Errorf("filling %s, which is unfinished now: %w", d.Path, err)
	}
	return nil
}

func (d *Device) fillBehindMark(ctx context.Context, c Copy, size int64) error {
	end := int64(d.Size)
	for _, stale := range [][2]int64{{int64(c.Image.Size), size}, {max(size, end-edge), end}} {
		if stale[0] = max(stale[0], sector); stale[0] < stale[1] {
			if err := d.zero(ctx, stale[0], stale[1]-stale[0]); err != nil {
				return err
			}
		}
	}
	if size > edge {
		if err := d.copyRest(ctx, c, size); err != nil {
			return err
		}
	}
	first, err := c.readFirst(ctx, min(edge, size))
	if err != nil {
		return err
	}
	if err := unwritten(c.File, c.Image); err != nil {
		return err
	}
	if err := d.writeSynced(first[sector:], sector); err != nil {
		return err
	}
	return d.writeSynced(first[:sector], 0)
}

// writeSynced writes to the device, and returns when that and all that was
// written before it is on the disk.
func (d *Device) writeSynced(data []byte, offset int64) error {
	if _, err := d.file.WriteAt(data, offset); err != nil {
		return err
	}
	return d.file.Sync()
}

// copyRest writes all of an image but its first MiB. Its holes become zeros.
func (d *Device) copyRest(ctx context.Context, c Copy, size int64) error {
	if c.Image.Format == Raw {
		return c.copyRaw(ctx, rawCopy{from: c.File, to: d.file, zero: d.zero}, edge)
	}
	return c.convert(ctx, conversion{
		from: window(c.Image, vm.Bytes(edge), 0),
		to: optionList("driver", Raw, "offset", fmt.Sprint(edge), "size", fmt.Sprint(size-edge),
			"file.driver", "host_device", "file.filename", "/proc/self/fd/4"),
		name:    d.Path,
		options: []string{"-n", "--target-image-opts"},
		files:   []*os.File{d.file},
		limits:  convertLimits(c.Image.Size, 0), // a device is no file
	})
}

// readFirst reads the start of an image's disk into memory.
func (c Copy) readFirst(ctx context.Context, length int64) ([]byte, error) {
	first := make([]byte, length)
	if c.Image.Format == Raw {
		if _, err := c.File.ReadAt(first, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return first, nil
	}
	memory, err := memfile.Empty("memory")
	if err != nil {
		return nil, err
	}
	defer memory.Close()
	if err := memory.Truncate(length); err != nil {
		return nil, err
	}
	c.Progress = nil
	err = c.convert(ctx, conversion{
		from:    window(c.Image, 0, vm.Bytes(length)),
		to:      optionList("driver", Raw, "file.driver", "file", "file.filename", "/proc/self/fd/4"),
		name:    "memory",
		options: []string{"-n", "--target-is-zero", "--target-image-opts"},
		files:   []*os.File{memory},
		limits:  convertLimits(vm.Bytes(length), vm.Bytes(length)),
	})
	if err != nil {
		return nil, err
	}
	_, err = memory.ReadAt(first, 0)
	return first, err
}

// zeroAtOnce is how much is zeroed between two looks at the context: a device
// that cannot do it by itself has zeros written to it.
const zeroAtOnce = 64 << 20

// zero makes a range of the device read as zeros. It gives storage back where
// the device can.
func (d *Device) zero(ctx context.Context, offset, length int64) error {
	const block = 4096 // no device has larger ones
	for end := offset + length; offset < end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		part := min(zeroAtOnce, (end-offset)&^(block-1))
		if offset%block != 0 || part == 0 { // an end that is not of whole blocks
			part = min(block-offset%block, end-offset)
			if _, err := d.file.WriteAt(zeros[:part], offset); err != nil {
				return err
			}
		} else if err := d.zeroBlocks(offset, part); err != nil {
			return fmt.Errorf("zeroing %d bytes of %s at %d: %w", part, d.Path, offset, err)
		}
		offset += part
	}
	return nil
}

func (d *Device) zeroBlocks(offset, length int64) error {
	fd := int(d.file.Fd())
	err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	}
	return err
}
