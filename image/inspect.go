// Package image handles disk image files, which are a stranger's input: it
// tells their format and virtual size, refuses those that would read other
// files, identifies their content, and copies them with qemu-img.
package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"nomad-driver-virt/vm"
)

// Formats of images.
const (
	Raw   = "raw"
	Qcow2 = "qcow2"
)

// Inspect tells the format and virtual size of an image file, reading nothing
// but its header. A format other than "" is what the image has to be. An image
// that refers to other files is refused: it would show the guest any file of
// the host.
func Inspect(file *os.File, format string) (vm.Image, error) {
	info, err := file.Stat()
	if err != nil {
		return vm.Image{}, err
	}
	version, err := versionOf(file)
	if err != nil {
		return vm.Image{}, err
	}
	found, err := detect(file, info.Size())
	if err != nil {
		return vm.Image{}, fmt.Errorf("reading the image: %w", err)
	}
	switch {
	case info.Size() == 0:
		return vm.Image{}, errors.New("the image is empty")
	case format == Raw:
		// Any bytes are a raw image, if that is what the job wants.
		found = Raw
	case format != "" && format != found:
		return vm.Image{}, fmt.Errorf("the image is said to be %s and is %s; leave source.format out to have it detected", format, found)
	}
	image := vm.Image{Path: file.Name(), Format: found, Size: vm.Bytes(info.Size()), Version: version.String()}
	switch found {
	case Raw:
	case Qcow2:
		image.Size, err = inspectQcow2(file)
	default:
		err = fmt.Errorf("images of format %s are not supported yet; convert it: qemu-img convert -O qcow2", found)
	}
	return image, err
}

// signatures tell formats by the bytes at an offset of the file; a negative
// offset counts from its end.
var signatures = []struct {
	format string
	offset int64
	bytes  string
}{
	{Qcow2, 0, "QFI\xfb"},
	{"vmdk", 0, "KDMV"},
	{"vmdk", 0, "COWD"},
	{"vmdk", 0, "# Disk DescriptorFile"},
	{"vhdx", 0, "vhdxfile"},
	{"vpc", 0, "conectix"},
	{"vpc", -512, "conectix"},
	{"vdi", 64, "\x7f\x10\xda\xbe"},
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
		got := make([]byte, len(s.bytes))
		switch _, err := file.ReadAt(got, max(offset, 0)); {
		case errors.Is(err, io.EOF): // too short to be that
		case err != nil:
			return "", err
		case bytes.Equal(got, []byte(s.bytes)):
			return s.format, nil
		}
	}
	return Raw, nil
}

// qcow2Header is the head of a qcow2 file, big-endian.
//
// See https://www.qemu.org/docs/master/interop/qcow2.html
type qcow2Header struct {
	Magic                 [4]byte
	Version               uint32
	BackingFileOffset     uint64
	BackingFileSize       uint32
	ClusterBits           uint32
	Size                  uint64
	CryptMethod           uint32
	L1Size                uint32
	L1TableOffset         uint64
	RefcountTableOffset   uint64
	RefcountTableClusters uint32
	NbSnapshots           uint32
	SnapshotsOffset       uint64
}

const (
	incompatibleFeaturesOffset = 72 // behind the header, in version 3
	externalDataFile           = 1 << 2
)

func inspectQcow2(file io.ReaderAt) (vm.Bytes, error) {
	var h qcow2Header
	if err := binary.Read(io.NewSectionReader(file, 0, incompatibleFeaturesOffset), binary.BigEndian, &h); err != nil {
		return 0, errors.New("the image is cut off within its qcow2 header; fetch it again")
	}
	features := make([]byte, 8)
	if h.Version >= 3 {
		if _, err := file.ReadAt(features, incompatibleFeaturesOffset); err != nil {
			return 0, errors.New("the image is cut off within its qcow2 header; fetch it again")
		}
	}
	switch {
	case h.Version != 2 && h.Version != 3:
		return 0, fmt.Errorf("the image is qcow2 of version %d, which is not known", h.Version)
	case h.BackingFileOffset != 0 || h.BackingFileSize != 0:
		return 0, errors.New("the image is an overlay of another file, which would be read with it; " +
			"make it whole: qemu-img convert -O qcow2")
	case binary.BigEndian.Uint64(features)&externalDataFile != 0:
		return 0, errors.New("the image keeps its data in another file, which would be read with it; " +
			"make it whole: qemu-img convert -O qcow2")
	case h.CryptMethod != 0:
		return 0, errors.New("the image is encrypted, which is not supported; decrypt it: qemu-img convert")
	case h.Size == 0:
		return 0, errors.New("the image is a disk of no size")
	}
	return vm.Bytes(h.Size), nil
}
