package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// vmdkHeader is the head of a VMDK file that holds its own data, little-endian.
// Sizes and offsets are in sectors of 512 bytes.
//
// See VMware's "Virtual Disk Format 5.0", "Hosted Sparse Extent Header"
type vmdkHeader struct {
	Magic            [4]byte
	Version          uint32
	Flags            uint32
	Capacity         uint64
	GrainSize        uint64
	DescriptorOffset uint64
	DescriptorSize   uint64
}

// Where QEMU looks for the descriptor, whatever the header says, and how much
// of it QEMU reads: desc_offset and DESC_SIZE in QEMU's block/vmdk.c.
const (
	descriptorOffset  = 512
	descriptorMin     = 20 * 512
	descriptorMax     = 1 << 20
	descriptorSectors = descriptorMax / 512
)

// inspectVMDK refuses a VMDK that is not one file which stands alone.
func inspectVMDK(file io.ReaderAt) error {
	var h vmdkHeader
	if err := binary.Read(io.NewSectionReader(file, 0, 44), binary.LittleEndian, &h); err != nil {
		return errCutOff(VMDK)
	}
	switch string(h.Magic[:]) {
	case "# Di":
		return errors.New("the image is a VMDK descriptor, a text that names the files of a disk, which would be read with it; " +
			"make one file of them where they are: qemu-img convert -O qcow2")
	case "COWD":
		return fmt.Errorf("the image is a VMDK of an old ESX (COWD), which is not supported; %s", advice)
	}
	switch {
	case h.DescriptorOffset == 0 || h.DescriptorSize == 0:
		return errVMDKPart()
	case h.Capacity == 0:
		// QEMU takes the descriptor's list of files for the disk then.
		return errVMDKFiles()
	case h.DescriptorOffset != descriptorOffset/512 || h.DescriptorSize > descriptorSectors:
		return errors.New("the image has a VMDK descriptor where none can be; it is damaged, fetch it again")
	}
	// QEMU may read more than there is, and VMware more than QEMU does.
	text := make([]byte, max(int64(h.DescriptorSize)*512, descriptorMin))
	n, err := file.ReadAt(text, descriptorOffset)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if int64(n) < int64(h.DescriptorSize)*512 {
		return errCutOff(VMDK)
	}
	return judgeDescriptor(string(text[:n]))
}

// judgeDescriptor refuses what is not the description of one file: it has no
// parent, and its only extent is the file itself. Its name is not compared: a
// file may have been renamed.
func judgeDescriptor(text string) error {
	if strings.Contains(strings.ToLower(text), "parentfilenamehint") {
		return errOverlay()
	}
	text, _, _ = strings.Cut(text, "\x00")
	var kind, extent string
	extents := 0
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
		key, value, _ := strings.Cut(line, "=")
		value = strings.Trim(value, " \t\"")
		switch key = strings.ToLower(strings.TrimSpace(key)); {
		case key == "parentcid" && !strings.EqualFold(value, "ffffffff"):
			return errOverlay()
		case key == "createtype":
			kind = value
		case isExtent(key):
			extents++
			extent = line
		}
	}
	switch {
	case kind != "monolithicSparse" && kind != "streamOptimized":
		return errVMDKKind(kind)
	case extents != 1:
		return errVMDKFiles()
	}
	return judgeExtent(extent)
}

// isExtent: an extent's line begins with how it may be accessed.
func isExtent(line string) bool {
	first, _, _ := strings.Cut(line, " ")
	return first == "rw" || first == "rdonly" || first == "noaccess"
}

// judgeExtent reads a line like: RW 131072 SPARSE "disk.vmdk"
func judgeExtent(line string) error {
	fields := strings.Fields(line)
	_, name, _ := strings.Cut(line, "\"")
	if len(fields) < 4 || fields[2] != "SPARSE" || strings.ContainsAny(name, "/\\") {
		return errVMDKFiles()
	}
	return nil
}

func errVMDKFiles() error {
	return errors.New("the image is a VMDK that refers to other files, which would be read with it; " +
		"make one file of them where they are: qemu-img convert -O qcow2")
}

func errVMDKPart() error {
	return errors.New("the image is a VMDK without a descriptor, which is one part of a disk of several files; " +
		"make one file of them where they are: qemu-img convert -O qcow2")
}

func errVMDKKind(kind string) error {
	return fmt.Errorf("the image is a VMDK of type %.40q, "+
		"and only monolithicSparse and streamOptimized are one file; %s", kind, advice)
}
