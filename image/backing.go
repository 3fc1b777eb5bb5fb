package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// maxBackingName is the longest name that QEMU takes for a backing file.
const maxBackingName = 1023

// BackingFile returns the name of the file that a qcow2 overlays, as it is
// written in its header; "" for a file that overlays none, that is no qcow2, or
// whose header QEMU could not follow either: a guest may have written it.
func BackingFile(file *os.File) (string, error) {
	var h qcow2Header
	if err := binary.Read(io.NewSectionReader(file, 0, qcow2HeaderSize), binary.BigEndian, &h); err != nil {
		return "", unlessCutOff(file, err)
	}
	if string(h.Magic[:]) != "QFI\xfb" || h.BackingFileOffset == 0 || h.BackingFileOffset > math.MaxInt64-maxBackingName {
		return "", nil
	}
	name := make([]byte, min(h.BackingFileSize, maxBackingName))
	if _, err := file.ReadAt(name, int64(h.BackingFileOffset)); err != nil {
		return "", unlessCutOff(file, err)
	}
	return string(name), nil
}

func unlessCutOff(file *os.File, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("reading %s: %w", file.Name(), err)
}
