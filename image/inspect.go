// Package image handles disk image files, which are a stranger's input: it
// tells their format and virtual size, refuses those that would read other
// files, identifies their content, and copies them into volumes and devices.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"nomad-driver-virt/vm"
)

// Formats of images, by QEMU's names.
const (
	Raw   = "raw"
	Qcow2 = "qcow2"
	VMDK  = "vmdk"
	VDI   = "vdi"
	VHDX  = "vhdx"
	VPC   = "vpc" // Microsoft's VHD
)

// Formats are those that a disk may be made from.
var Formats = []string{Raw, Qcow2, VMDK, VDI, VHDX, VPC}

// Inspect tells the format and virtual size of an image file. A format other
// than "" is what the image has to be; any file is Raw if that is asked for. An
// image that refers to other files is refused, by its header alone and before
// any program has opened it: it would show the guest any file of the host.
//
// The size of a format that only QEMU knows in full is asked of qemu-img.
func Inspect(ctx context.Context, file *os.File, format string) (vm.Image, error) {
	version, err := settle(ctx, file)
	if err != nil {
		return vm.Image{}, err
	}
	image := vm.Image{Path: file.Name(), Version: version.String()}
	image.Format, image.Size, err = readHeader(file, version.size, format)
	if err != nil {
		return vm.Image{}, err
	}
	if image.Size == 0 {
		image.Size, err = virtualSize(ctx, file, image)
		if err != nil {
			return vm.Image{}, err
		}
	}
	if err := judgeSize(image.Size); err != nil {
		return vm.Image{}, err
	}
	return image, nil
}

// readHeader tells the format of an image, and refuses what cannot be used.
// The size is 0 where it takes QEMU to tell it.
func readHeader(file io.ReaderAt, size int64, format string) (string, vm.Bytes, error) {
	if size == 0 {
		return "", 0, errors.New("the image is empty")
	}
	if format == Raw {
		// Any bytes are a raw image, if that is what the job wants.
		return Raw, vm.Bytes(size), nil
	}
	found, err := detect(file, size)
	if err != nil {
		return "", 0, fmt.Errorf("reading the image: %w", err)
	}
	if format != "" && format != found {
		return "", 0, fmt.Errorf("the image is said to be %s and is %s; "+
			"leave source.format out to have it detected", format, found)
	}
	virtual := vm.Bytes(0)
	switch found {
	case Raw:
		virtual = vm.Bytes(size)
	case Qcow2:
		virtual, err = inspectQcow2(file)
	case VMDK:
		err = inspectVMDK(file)
	case VDI:
		err = inspectVDI(file)
	case VHDX:
		err = inspectVHDX(file)
	case VPC:
		err = inspectVPC(file, size)
	case "luks":
		err = errors.New("the image is encrypted by LUKS; decrypt it, or have it copied as it is with source.format = \"raw\"")
	default:
		err = fmt.Errorf("images of format %s are not supported; %s", found, advice)
	}
	return found, virtual, err
}

// advice is what to do with an image that is refused: who has the files that
// belong to it can make one file of them.
const advice = "convert it where it comes from and is trusted: qemu-img convert -O qcow2"

// maxSize is the largest disk that a qcow2 can describe in full.
//
// See https://www.qemu.org/docs/master/interop/qcow2.html, "size"
const maxSize vm.Bytes = 1 << 56

func judgeSize(size vm.Bytes) error {
	switch {
	case size == 0:
		return errors.New("the image is a disk of no size; it is damaged, or was never written: fetch it again")
	case size > maxSize:
		return fmt.Errorf("the image says that it is a disk of %s, which no disk can be; it is damaged, fetch it again", size)
	}
	return nil
}

// signatures tell formats by the bytes at an offset of the file; a negative
// offset counts from its end.
//
// See the probe functions in QEMU's block directory.
var signatures = []struct {
	format string
	offset int64
	bytes  string
}{
	{Qcow2, 0, "QFI\xfb"},
	{VMDK, 0, "KDMV"},
	{VMDK, 0, "COWD"},
	{VMDK, 0, "# Disk DescriptorFile"},
	{VHDX, 0, "vhdxfile"},
	{VPC, 0, "conectix"},
	{VPC, -512, "conectix"},
	{VDI, 64, "\x7f\x10\xda\xbe"},
	{"luks", 0, "LUKS\xba\xbe"},
	{"qed", 0, "QED\x00"},
	{"dmg", -512, "koly"},
	{"parallels", 0, "WithoutFreeSpace"},
	{"parallels", 0, "WithouFreSpacExt"},
}

// detect tells a format by its signature. What has none is raw.
func detect(file io.ReaderAt, size int64) (string, error) {
	for _, s := range signatures {
		offset := s.offset
		if offset < 0 {
			offset += size
		}
		if offset < 0 {
			continue
		}
		got := make([]byte, len(s.bytes))
		switch _, err := file.ReadAt(got, offset); {
		case errors.Is(err, io.EOF): // too short to be that
		case err != nil:
			return "", err
		case bytes.Equal(got, []byte(s.bytes)):
			return s.format, nil
		}
	}
	return Raw, nil
}

// errCutOff says that an image ends before its header does.
func errCutOff(format string) error {
	return fmt.Errorf("the image is cut off within its %s header; fetch it again", format)
}

// errOverlay says that an image holds only what differs from another.
func errOverlay() error {
	return errors.New("the image is an overlay of another file, which would be read with it; " +
		"make it whole where both are: qemu-img convert -O qcow2")
}
