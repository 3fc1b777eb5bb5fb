package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// vdiHeader is the head of a VDI file, little-endian.
//
// See VdiHeader in QEMU's block/vdi.c
type vdiHeader struct {
	Text            [64]byte
	Signature       uint32
	Version         uint32
	HeaderSize      uint32
	Type            uint32
	Flags           uint32
	Description     [256]byte
	BlockMapOffset  uint32
	DataOffset      uint32
	Geometry        [3]uint32
	SectorSize      uint32
	_               uint32
	DiskSize        uint64
	BlockSize       uint32
	BlockExtra      uint32
	Blocks          uint32
	BlocksAllocated uint32
	UUID            [16]byte
	LastSnapshot    [16]byte
	Link            [16]byte
	Parent          [16]byte
}

// Types of VDI images; QEMU reads these two.
const (
	vdiDynamic = 1
	vdiStatic  = 2
)

func readVDI(file io.ReaderAt) (vdiHeader, error) {
	var h vdiHeader
	if err := binary.Read(io.NewSectionReader(file, 0, int64(binary.Size(h))), binary.LittleEndian, &h); err != nil {
		return vdiHeader{}, errCutOff(VDI)
	}
	return h, nil
}

// inspectVDI refuses a VDI that is an overlay.
func inspectVDI(file io.ReaderAt) error {
	h, err := readVDI(file)
	if err != nil {
		return err
	}
	none := [16]byte{}
	switch {
	case h.Link != none || h.Parent != none:
		return errOverlay()
	case h.Type != vdiDynamic && h.Type != vdiStatic:
		return fmt.Errorf("the image is a VDI of type %d, which belongs to another file; "+
			"make it whole where both are: qemu-img convert -O qcow2", h.Type)
	case h.DiskSize == 0:
		return errors.New("the image is a disk of no size; it is damaged, or was never written: fetch it again")
	}
	return nil
}

// checkVDI refuses a VDI that ends before its data does, which qemu-img check
// does not see: vdi_co_check compares the header with the block map alone.
func checkVDI(file io.ReaderAt, size int64) error {
	h, err := readVDI(file)
	if err != nil {
		return err
	}
	block := uint64(h.BlockSize) + uint64(h.BlockExtra)
	if need := uint64(h.DataOffset) + uint64(h.BlocksAllocated)*block; uint64(size) < need {
		return fmt.Errorf("the image is cut off: it has %d of %d bytes; fetch it again", size, need)
	}
	return nil
}
