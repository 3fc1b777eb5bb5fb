package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"nomad-driver-virt/vm"
)

// Write fills a volume that was created, is empty and is at least as large
// with an image: what is a hole in the image is left as it is in the volume.
func Write(ctx context.Context, file *os.File, image vm.Image, to vm.Volume) error {
	return convert(ctx, file, image, "-n", "--target-is-zero", "-O", to.Format, source(image), to.Path)
}

// Create makes a new file of an image. It is on the disk when Create returns,
// and may be incomplete if that is an error.
func Create(ctx context.Context, file *os.File, image vm.Image, to vm.Volume) error {
	if err := convert(ctx, file, image, "-O", to.Format, source(image), to.Path); err != nil {
		return err
	}
	made, err := os.Open(to.Path)
	if err != nil {
		return err
	}
	defer made.Close()
	return made.Sync()
}

// convert copies an image that is what it was when it was inspected. qemu-img
// reads its header again, and one that was written meanwhile could lead it to
// other files: what was copied of that is not to be used.
func convert(ctx context.Context, file *os.File, image vm.Image, args ...string) error {
	err := qemuImg(ctx, file, append([]string{"convert"}, args...)...)
	if now, stat := versionOf(file); stat != nil || now.String() != image.Version {
		return errWritten(file)
	}
	return err
}

// source describes an image to qemu-img: the file that was opened and judged,
// by its descriptor, with the format that was found and no other file with it.
//
// See https://www.qemu.org/docs/master/system/qemu-block-drivers.html
func source(image vm.Image) string {
	options := map[string]any{
		"driver": image.Format,
		"file":   map[string]string{"driver": "file", "filename": "/proc/self/fd/3"},
	}
	if image.Format == Qcow2 {
		options["backing"] = nil
	}
	out, err := json.Marshal(options)
	if err != nil {
		panic(err) // of two strings and a nil
	}
	return "json:" + string(out)
}

// qemuImg runs qemu-img with an open file as its descriptor 3. It dies with
// this process, and with the context.
func qemuImg(ctx context.Context, file *os.File, args ...string) error {
	// The death of the parent's thread is what kills the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	cmd := exec.CommandContext(ctx, "qemu-img", args...)
	cmd.ExtraFiles = []*os.File{file}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("qemu-img %s of %s was given up: %w", args[0], file.Name(), context.Cause(ctx))
	case errors.As(err, &exit):
		said := strings.Join(strings.Fields(strings.ReplaceAll(stderr.String(), args[len(args)-2], file.Name())), " ")
		return fmt.Errorf("qemu-img %s of %s failed (%w): %s", args[0], file.Name(), err, said)
	case err != nil:
		return fmt.Errorf("running qemu-img, which Debian has in qemu-utils: %w", err)
	}
	return nil
}
