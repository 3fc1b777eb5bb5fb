package image

import (
	"context"
	"os"

	"nomad-driver-virt/vm"
)

// AtMost is the most that a volume can take of a pool's directory once an image
// was written to it, whatever is in the image. A volume of a Ceph pool takes
// nothing of a directory.
func AtMost(image vm.Image, to vm.Volume) vm.Bytes {
	size := max(to.Size, image.Size)
	switch {
	case to.RBD != nil:
		return 0
	case !to.Sparse:
		return size + tables(size, to.Format)
	}
	return image.Size + tables(size, to.Format)
}

// tables is the most that a format's own tables take.
func tables(size vm.Bytes, format string) vm.Bytes {
	if format == Qcow2 {
		return qcow2Metadata(size)
	}
	return 0
}

// Needs tells how much a volume takes once an image was written to it, by what
// the image has allocated: never less than that, and more where it has zeros
// written.
func Needs(ctx context.Context, file *os.File, image vm.Image, to vm.Volume) (vm.Bytes, error) {
	most := AtMost(image, to)
	if to.RBD != nil || !to.Sparse {
		return most, nil
	}
	metadata := most - image.Size
	if image.Format == Raw {
		data, err := allocated(file, int64(image.Size), to.Format)
		return data + metadata, err
	}
	// QEMU does not measure what a sparse raw file takes: its data is what it
	// would be in a qcow2.
	var needs struct {
		Required vm.Bytes `json:"required"`
	}
	err := ask(ctx, file, image, checkLimits(image.Size), &needs, "measure", "-O", Qcow2)
	return min(needs.Required, image.Size) + metadata, err
}

// NeedsOfData is Needs for a raw image, by its data alone: it is read for that.
// Zeros that are written in it are none in a volume.
func NeedsOfData(ctx context.Context, file *os.File, image vm.Image, to vm.Volume) (vm.Bytes, error) {
	data := units{size: unitOf(to.Format)}
	r := rawCopy{from: file}
	err := extents(file, 0, int64(image.Size), func(offset, length int64, hole bool) error {
		for end := offset + length; offset < end && !hole; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			next := min(offset+piece, end)
			err := r.eachData(offset, next, func(from, to int64) error {
				data.add(from, to)
				return nil
			})
			if err != nil {
				return err
			}
			offset = next
		}
		return nil
	})
	if err := unwritten(file, image); err != nil {
		return 0, err
	}
	return data.total + tables(max(to.Size, image.Size), to.Format), err
}

// allocated is what the data of a raw image takes in a file of a format.
func allocated(file *os.File, size int64, format string) (vm.Bytes, error) {
	data := units{size: unitOf(format)}
	err := extents(file, 0, size, func(offset, length int64, hole bool) error {
		if !hole {
			data.add(offset, offset+length)
		}
		return nil
	})
	return data.total, err
}

// unitOf is what a file of a format takes at least for any data.
func unitOf(format string) int64 {
	if format == Qcow2 {
		return 64 << 10 // a cluster
	}
	return 4096
}

// units counts what ranges take in whole units, those that ranges share once. The
// ranges come in order.
type units struct {
	size    int64
	counted int64 // units before this one are in total
	total   vm.Bytes
}

func (u *units) add(from, to int64) {
	first, last := max(from/u.size, u.counted), (to+u.size-1)/u.size
	u.total += vm.Bytes(max(0, last-first) * u.size)
	u.counted = max(u.counted, last)
}
