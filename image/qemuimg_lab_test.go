//go:build lab

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

func tool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// rawImage writes a raw image of 8 MiB: 1 MiB of data at its start and at its
// middle, and holes. The data does not compress.
func rawImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image.img")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(int64(8 * vm.MiB)); err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	for sum := sha256.Sum256(nil); data.Len() < int(vm.MiB); sum = sha256.Sum256(sum[:]) {
		data.Write(sum[:])
	}
	for _, offset := range []vm.Bytes{0, 4 * vm.MiB} {
		if _, err := file.WriteAt(data.Bytes(), int64(offset)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// inspected opens and inspects an image, as a start does.
func inspected(t *testing.T, path string) (*os.File, vm.Image) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	image, err := Inspect(file, "")
	if err != nil {
		t.Fatal(err)
	}
	return file, image
}

func used(t *testing.T, path string) vm.Bytes {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return vm.Bytes(st.Blocks * 512)
}

// images are one disk in every form that an image may have.
func images(t *testing.T) map[string]string {
	t.Helper()
	raw, dir := rawImage(t), t.TempDir()
	plain, compressed := filepath.Join(dir, "plain.qcow2"), filepath.Join(dir, "compressed.qcow2")
	tool(t, "convert", "-O", "qcow2", raw, plain)
	tool(t, "convert", "-c", "-O", "qcow2", raw, compressed)
	return map[string]string{"raw": raw, "qcow2": plain, "compressed qcow2": compressed}
}

func TestWriteFillsALargerVolume(t *testing.T) {
	for name, path := range images(t) {
		for _, format := range []string{Qcow2, Raw} {
			t.Run(name+" into "+format, func(t *testing.T) {
				file, image := inspected(t, path)
				to := vm.Volume{Path: filepath.Join(t.TempDir(), "volume"), Format: format, Size: 64 * vm.MiB}
				tool(t, "create", "-q", "-f", format, to.Path, "64M")
				if err := Write(context.Background(), file, image, to); err != nil {
					t.Fatal(err)
				}
				tool(t, "compare", "-f", image.Format, "-F", format, path, to.Path)
				if got := used(t, to.Path); got > 3*vm.MiB {
					t.Errorf("the volume takes %s of the disk, the image has 2MiB of data: its holes are filled", got)
				}
				volume, err := os.Open(to.Path)
				if err != nil {
					t.Fatal(err)
				}
				defer volume.Close()
				if after, err := Inspect(volume, format); err != nil || after.Size != to.Size {
					t.Errorf("the volume is of %s afterwards, %v, want %s", after.Size, err, to.Size)
				}
			})
		}
	}
}

func TestCreateMakesAWholeFile(t *testing.T) {
	for name, path := range images(t) {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			to := vm.Volume{Path: filepath.Join(t.TempDir(), "base.qcow2"), Format: Qcow2}
			if err := Create(context.Background(), file, image, to); err != nil {
				t.Fatal(err)
			}
			tool(t, "compare", "-f", image.Format, "-F", Qcow2, path, to.Path)
			if _, made := inspected(t, to.Path); made.Size != image.Size {
				t.Errorf("the base is of %s, the image of %s", made.Size, image.Size)
			}
		})
	}
}

// A job may write to its image after it was judged.
// The file is the one that was inspected, and its header another one since.
func TestHeaderThatIsSwappedInIsRefused(t *testing.T) {
	for name, options := range map[string][]string{
		"backing file": {"-b", "HIDDEN", "-F", "raw"},
		"data file":    {"-o", "data_file=HIDDEN,data_file_raw=on"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hidden, path, other := filepath.Join(dir, "hidden"), filepath.Join(dir, "image.qcow2"), filepath.Join(dir, "other.qcow2")
			tool(t, "create", "-q", "-f", "qcow2", path, "1M")
			file, image := inspected(t, path)

			tool(t, "create", "-q", "-f", "raw", hidden, "1M")
			args := []string{"create", "-q", "-f", "qcow2"}
			for _, option := range options {
				args = append(args, strings.ReplaceAll(option, "HIDDEN", hidden))
			}
			tool(t, append(args, other, "1M")...)
			content, err := os.ReadFile(other)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, content, 0o600); err != nil { // the same inode
				t.Fatal(err)
			}

			to := vm.Volume{Path: filepath.Join(dir, "volume.img"), Format: Raw}
			if err := Create(context.Background(), file, image, to); err == nil || !strings.Contains(err.Error(), "was written while") {
				t.Errorf("got error %v, want one that says that the image was written", err)
			}
		})
	}
}

func TestCancelKillsQemuImg(t *testing.T) {
	file, image := inspected(t, rawImage(t))
	// A volume that nobody reads: qemu-img waits to open it.
	fifo := filepath.Join(t.TempDir(), "volume")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	failed := make(chan error, 1)
	go func() { failed <- Write(ctx, file, image, vm.Volume{Path: fifo, Format: Raw}) }()

	reason := errors.New("the task was stopped")
	cancel(reason)
	select {
	case err := <-failed:
		if !errors.Is(err, reason) || !strings.Contains(err.Error(), file.Name()) {
			t.Errorf("the error is %v, want one that names the image and why", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Write has not returned 10 s after its context has ended")
	}
}

// spoil makes the L1 table of a qcow2 be where none can be.
func spoil(t *testing.T, path string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const l1TableOffset = 40
	if _, err := file.WriteAt([]byte{0, 0, 0, 0, 0, 0, 0, 1}, l1TableOffset); err != nil {
		t.Fatal(err)
	}
}

func TestFailureNamesTheImage(t *testing.T) {
	raw := rawImage(t)
	broken := filepath.Join(t.TempDir(), "broken.qcow2")
	tool(t, "convert", "-O", "qcow2", raw, broken)
	spoil(t, broken)
	file, image := inspected(t, broken)
	missing := filepath.Join(t.TempDir(), "missing", "volume.qcow2")
	for name, to := range map[string]vm.Volume{
		"a broken image":                {Path: filepath.Join(t.TempDir(), "volume.qcow2"), Format: Qcow2},
		"a directory that is not there": {Path: missing, Format: Qcow2},
	} {
		t.Run(name, func(t *testing.T) {
			err := Create(context.Background(), file, image, to)
			if err == nil {
				t.Fatal("it succeeds")
			}
			said := err.Error()
			if !strings.Contains(said, broken) || strings.Contains(said, "/proc/self/fd") || strings.Contains(said, "\n") {
				t.Errorf("the error is %q, want one line that names %s and no descriptor", said, broken)
			}
		})
	}
}

func TestQemuImgThatIsNotInstalled(t *testing.T) {
	file, image := inspected(t, rawImage(t))
	t.Setenv("PATH", t.TempDir())
	err := Create(context.Background(), file, image, vm.Volume{Path: filepath.Join(t.TempDir(), "v"), Format: Raw})
	if err == nil || !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("the error is %v, want one that names the package", err)
	}
}
