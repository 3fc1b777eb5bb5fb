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
	needs := AtMost(image, to) - image.Size
	r := rawCopy{from: file}
	err := extents(file, 0, int64(image.Size), func(offset, length int64, hole bool) error {
		for end := offset + length; offset < end && !hole; {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			next := min(offset+piece, end)
			err := r.eachData(offset, next, func(from, to int64) error {
				needs += vm.Bytes(to - from)
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
	return needs, err
}
