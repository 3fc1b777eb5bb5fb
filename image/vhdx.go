package image

import (
	"encoding/binary"
	"errors"
	"io"
)

// See Microsoft's [MS-VHDX], "Layout" and "Metadata region". All is
// little-endian.
const (
	vhdxRegionTable    = 192 << 10 // the copy behind it is not read by QEMU
	vhdxMaxRegions     = 2047
	vhdxMaxMetadata    = 2047
	vhdxHasParent      = 1 << 1 // in the file parameters
	vhdxMetadataRegion = "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e"
	vhdxFileParameters = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b"
	vhdxParentLocator  = "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c"
)

type vhdxRegions struct {
	Signature [4]byte
	Checksum  uint32
	Count     uint32
	_         uint32
}

type vhdxRegion struct {
	GUID   [16]byte
	Offset uint64
	Length uint32
	_      uint32
}

type vhdxMetadata struct {
	Signature [8]byte
	_         uint16
	Count     uint16
	_         [20]byte
}

type vhdxItem struct {
	GUID   [16]byte
	Offset uint32 // from the start of the region
	Length uint32
	_      [8]byte
}

// inspectVHDX refuses a VHDX that is an overlay. QEMU would refuse it too.
func inspectVHDX(file io.ReaderAt) error {
	var table vhdxRegions
	if err := readLittle(file, vhdxRegionTable, &table); err != nil {
		return errCutOff(VHDX)
	}
	if string(table.Signature[:]) != "regi" || table.Count > vhdxMaxRegions {
		return errVHDX()
	}
	regions := make([]vhdxRegion, table.Count)
	if err := readLittle(file, vhdxRegionTable+16, regions); err != nil {
		return errCutOff(VHDX)
	}
	for _, region := range regions {
		if string(region.GUID[:]) == vhdxMetadataRegion {
			return judgeMetadata(file, region.Offset)
		}
	}
	return errVHDX()
}

func judgeMetadata(file io.ReaderAt, offset uint64) error {
	if offset > uint64(maxSize) {
		return errVHDX()
	}
	start := int64(offset)
	var table vhdxMetadata
	if err := readLittle(file, start, &table); err != nil {
		return errCutOff(VHDX)
	}
	if string(table.Signature[:]) != "metadata" || table.Count > vhdxMaxMetadata {
		return errVHDX()
	}
	items := make([]vhdxItem, table.Count)
	if err := readLittle(file, start+32, items); err != nil {
		return errCutOff(VHDX)
	}
	for _, item := range items {
		switch string(item.GUID[:]) {
		case vhdxParentLocator:
			return errOverlay()
		case vhdxFileParameters:
			var parameters struct{ BlockSize, Flags uint32 }
			if err := readLittle(file, start+int64(item.Offset), &parameters); err != nil {
				return errCutOff(VHDX)
			}
			if parameters.Flags&vhdxHasParent != 0 {
				return errOverlay()
			}
		}
	}
	return nil
}

// readLittle reads a fixed-size value at an offset.
func readLittle(file io.ReaderAt, offset int64, into any) error {
	return binary.Read(io.NewSectionReader(file, offset, int64(binary.Size(into))), binary.LittleEndian, into)
}

func errVHDX() error {
	return errors.New("the image has a VHDX header that makes no sense; it is damaged, fetch it again")
}
