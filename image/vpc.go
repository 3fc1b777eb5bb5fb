package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// vpcFooter is the part that matters of a VHD's footer, of which an image of a
// dynamic size has a copy at its start. Big-endian.
//
// See Microsoft's "Virtual Hard Disk Image Format Specification", "Hard Disk
// Footer Format", and vpc_open in QEMU's block/vpc.c
type vpcFooter struct {
	Cookie [8]byte
	_      [32]byte // features to creator host OS
	_      uint64   // original size
	Size   uint64
	_      uint32 // geometry
	Type   uint32
	_      uint32 // checksum
	_      [16]byte
	_      byte
	_      [427]byte
}

// Types of VHD images.
const (
	vpcFixed        = 2
	vpcDynamic      = 3
	vpcDifferencing = 4
)

// inspectVPC refuses a VHD that is an overlay. Both footers are judged: QEMU
// goes by the first and other programs by the last.
func inspectVPC(file io.ReaderAt, size int64) error {
	for _, offset := range []int64{0, size - 512} {
		var f vpcFooter
		if offset < 0 {
			return errCutOff(VPC)
		}
		if err := binary.Read(io.NewSectionReader(file, offset, 512), binary.BigEndian, &f); err != nil {
			return errCutOff(VPC)
		}
		if string(f.Cookie[:]) != "conectix" {
			continue // the data of an image of a fixed size, or one that is cut off
		}
		switch {
		case f.Type == vpcDifferencing:
			return errOverlay()
		case f.Type != vpcFixed && f.Type != vpcDynamic:
			return fmt.Errorf("the image is a VHD of type %d, which is not known; %s", f.Type, advice)
		case f.Size == 0:
			return errors.New("the image is a disk of no size; it is damaged, or was never written: fetch it again")
		}
	}
	return nil
}
