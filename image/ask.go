package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"nomad-driver-virt/vm"
)

// virtualSize asks qemu-img for the size of an image's disk.
func virtualSize(ctx context.Context, file *os.File, image vm.Image) (vm.Bytes, error) {
	var info struct {
		VirtualSize int64  `json:"virtual-size"`
		Backing     string `json:"backing-filename"`
		Encrypted   bool   `json:"encrypted"`
	}
	if err := ask(ctx, file, image, infoLimits(), &info, "info"); err != nil {
		return 0, damaged(file, err)
	}
	switch {
	case info.Backing != "":
		return 0, errOverlay()
	case info.Encrypted:
		return 0, errEncrypted()
	case info.VirtualSize < 0:
		return 0, errors.New("the image says that it is a disk of a negative size; it is damaged, fetch it again")
	}
	return vm.Bytes(info.VirtualSize), nil
}

// Check refuses an image that is damaged, or cut off: copied, it would read as
// zeros where its data was. Clusters that nothing refers to are no damage. Of
// raw images there is nothing to be known, and VHDs are checked as they are
// opened. A file that lacks less than its last cluster passes: QEMU itself
// leaves files that end within one.
func Check(ctx context.Context, file *os.File, image vm.Image) error {
	if image.Format == Raw || image.Format == VPC {
		return nil
	}
	if image.Format == VDI {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		if err := checkVDI(file, info.Size()); err != nil {
			return err
		}
	}
	var found struct{} // the exit code says it
	err := ask(ctx, file, image, checkLimits(image.Size), &found, "check")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == checkFoundLeaks {
		return nil
	}
	return damaged(file, err)
}

// checkFoundLeaks is qemu-img's exit code for clusters that nothing refers to.
//
// See https://www.qemu.org/docs/master/tools/qemu-img.html, "check"
const checkFoundLeaks = 3

// damaged says what to do where qemu-img does not like an image. Other errors
// are not the image's.
func damaged(file *os.File, err error) error {
	var exit *exec.ExitError
	switch {
	case !errors.As(err, &exit), !exit.Exited(), exit.ExitCode() > checkFoundLeaks:
		return err // it was killed, or did not begin
	case strings.Contains(err.Error(), "Failed to get shared"):
		return fmt.Errorf("the image %s is open in a VM, or in another program of QEMU's, that writes to it; "+
			"end that, or name a copy: %w", file.Name(), err)
	}
	return fmt.Errorf("the image %s is damaged or cut off; fetch it again: %w", file.Name(), err)
}

// ask runs a command of qemu-img on an image and decodes its answer. An image
// that was written meanwhile is refused: the answer may be of another header.
func ask(ctx context.Context, file *os.File, image vm.Image, l limits, answer any, command ...string) error {
	out := &head{max: 1 << 20}
	from := source(image)
	err := qemuImg{
		args:   append(command, "--output=json", from),
		image:  file,
		names:  []string{from, file.Name()},
		limits: l,
		stdout: out,
	}.run(ctx)
	if err := unwritten(file, image); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out.text.Bytes(), answer); err != nil {
		return fmt.Errorf("reading what qemu-img %s says of %s: %w", command[0], file.Name(), err)
	}
	return nil
}
