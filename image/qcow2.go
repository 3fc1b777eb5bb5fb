package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nomad-driver-virt/vm"
)

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

// qcow2Header3 is what a header of version 3 has behind that.
type qcow2Header3 struct {
	IncompatibleFeatures uint64
	CompatibleFeatures   uint64
	AutoclearFeatures    uint64
	RefcountOrder        uint32
	HeaderLength         uint32
}

const (
	qcow2HeaderSize  = 72  // of version 2
	qcow2HeaderSize3 = 104 // of version 3, at least

	// Incompatible features.
	featureCorrupt      = 1 << 1
	featureExternalData = 1 << 2
	featuresKnown       = 1<<5 - 1

	// Header extensions.
	extensionEnd          = 0
	extensionExternalData = 0x44415441
	extensionEncryption   = 0x0537be77
)

// inspectQcow2 refuses a qcow2 that does not stand alone, and returns the
// virtual size of one that does.
func inspectQcow2(file io.ReaderAt) (vm.Bytes, error) {
	var h qcow2Header
	if err := binary.Read(io.NewSectionReader(file, 0, qcow2HeaderSize), binary.BigEndian, &h); err != nil {
		return 0, errCutOff(Qcow2)
	}
	h3 := qcow2Header3{HeaderLength: qcow2HeaderSize}
	if h.Version >= 3 {
		rest := io.NewSectionReader(file, qcow2HeaderSize, qcow2HeaderSize3-qcow2HeaderSize)
		if err := binary.Read(rest, binary.BigEndian, &h3); err != nil {
			return 0, errCutOff(Qcow2)
		}
	}
	switch {
	case h.Version != 2 && h.Version != 3:
		return 0, fmt.Errorf("the image is qcow2 of version %d, which is not known; %s", h.Version, advice)
	case h.BackingFileOffset != 0 || h.BackingFileSize != 0:
		return 0, errOverlay()
	case h3.IncompatibleFeatures&featureExternalData != 0:
		return 0, errExternalData()
	case h.CryptMethod != 0:
		return 0, errEncrypted()
	case h3.IncompatibleFeatures&featureCorrupt != 0:
		return 0, errors.New("the image is marked as damaged; fetch it again, or repair it: qemu-img check -r all")
	case h3.IncompatibleFeatures&^featuresKnown != 0:
		return 0, fmt.Errorf("the image is qcow2 with features that are not known (bits %#x)",
			h3.IncompatibleFeatures&^featuresKnown)
	case h.ClusterBits < 9 || h.ClusterBits > 21:
		return 0, fmt.Errorf("the image has qcow2 clusters of 2^%d bytes, which cannot be; it is damaged, fetch it again", h.ClusterBits)
	case h.Version >= 3 && (h3.HeaderLength < qcow2HeaderSize3 || h3.HeaderLength > 1<<h.ClusterBits):
		return 0, fmt.Errorf("the image has a qcow2 header of %d bytes, which cannot be; it is damaged, fetch it again", h3.HeaderLength)
	}
	if err := judgeExtensions(file, int64(h3.HeaderLength), int64(1)<<h.ClusterBits); err != nil {
		return 0, err
	}
	// QEMU knows sectors only.
	size := vm.Bytes(h.Size) &^ (sector - 1)
	return size, judgeSize(size)
}

// judgeExtensions walks the extensions between the header and the end of the
// first cluster.
func judgeExtensions(file io.ReaderAt, offset, end int64) error {
	for offset+8 <= end {
		var extension struct{ Type, Length uint32 }
		if err := binary.Read(io.NewSectionReader(file, offset, 8), binary.BigEndian, &extension); err != nil {
			return errCutOff(Qcow2)
		}
		offset += 8
		switch {
		case extension.Type == extensionEnd:
			return nil
		case extension.Type == extensionExternalData:
			return errExternalData()
		case extension.Type == extensionEncryption:
			return errEncrypted()
		case int64(extension.Length) > end-offset:
			return errors.New("the image has a qcow2 header extension that is longer than the header; it is damaged, fetch it again")
		}
		offset += (int64(extension.Length) + 7) &^ 7
	}
	return nil
}

func errExternalData() error {
	return errors.New("the image keeps its data in another file, which would be read with it; " +
		"make it whole where both are: qemu-img convert -O qcow2")
}

func errEncrypted() error {
	return errors.New("the image is encrypted, which is not supported; decrypt it: qemu-img convert")
}
