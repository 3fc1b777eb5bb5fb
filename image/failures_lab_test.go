//go:build lab

package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

// The file is the one that was inspected, and its header another one since.
func TestHeaderThatIsSwappedInIsRefused(t *testing.T) {
	for name, options := range map[string][]string{
		"backing file": {"-b", "HIDDEN", "-F", "raw"},
		"data file":    {"-o", "data_file=HIDDEN,data_file_raw=on"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			hidden, path, other := filepath.Join(dir, "hidden"), filepath.Join(dir, "image"), filepath.Join(dir, "other")
			tool(t, "create", "-q", "-f", "qcow2", path, "1M")
			file, image := inspected(t, path)

			tool(t, "create", "-q", "-f", "raw", hidden, "1M")
			args := []string{"create", "-q", "-f", "qcow2"}
			for _, option := range options {
				args = append(args, strings.ReplaceAll(option, "HIDDEN", hidden))
			}
			tool(t, append(args, other, "1M")...)
			if err := os.WriteFile(path, content(t, other), 0o600); err != nil { // the same inode
				t.Fatal(err)
			}

			to := newVolume(t, Raw, vm.MiB)
			refused := map[string]error{
				"Fill":  Fill(context.Background(), Copy{File: file, Image: image, To: to}),
				"Check": Check(context.Background(), file, image),
			}
			_, refused["Needs"] = Needs(context.Background(), file, image, to)
			for what, err := range refused {
				if err == nil || !strings.Contains(err.Error(), "was written while") {
					t.Errorf("%s: got error %v, want one that says that the image was written", what, err)
				}
			}
		})
	}
}

// Another file has the image's name since it was inspected.
func TestFileThatIsSwappedInIsNotRead(t *testing.T) {
	path := rawImage(t)
	want := content(t, path)
	for _, format := range []string{Raw, Qcow2} {
		named := filepath.Join(t.TempDir(), "image."+format)
		tool(t, "convert", "-O", format, path, named)
		file, image := inspected(t, named)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(os.Rename(named, named+".was"))
		must(os.Symlink("/etc/passwd", named))
		to := newVolume(t, Raw, 8*vm.MiB)
		err := Check(context.Background(), file, image)
		if err == nil {
			err = Fill(context.Background(), Copy{File: file, Image: image, To: to})
		}
		// The rename is a change of the file that was inspected, too.
		if err == nil && !bytes.Equal(content(t, to.Path), want) {
			t.Errorf("%s: the volume does not hold the image that was inspected", format)
		}
		if err != nil && !strings.Contains(err.Error(), "was written while") {
			t.Errorf("%s: got error %v, want none, or that the image has changed", format, err)
		}
	}
}

func TestRawImageThatIsWrittenMeanwhileIsRefused(t *testing.T) {
	path := rawImage(t)
	for name, write := range map[string]func() error{
		"it grows":   func() error { return os.Truncate(path, int64(9*vm.MiB)) },
		"it is less": func() error { return os.Truncate(path, int64(vm.MiB)) },
	} {
		file, image := inspected(t, path)
		written := false
		tell := func(float64) {
			if written {
				return
			}
			written = true
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		to := newVolume(t, Raw, 16*vm.MiB)
		err := Fill(context.Background(), Copy{File: file, Image: image, To: to, Progress: tell})
		if err == nil || !strings.Contains(err.Error(), "was written while") {
			t.Errorf("%s: got error %v, want one that says that the image was written", name, err)
		}
	}
}

func TestFailureNamesTheImage(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.qcow2")
	tool(t, "convert", "-O", "qcow2", rawImage(t), broken)
	spoil(t, broken)
	file, image := inspected(t, broken)
	for name, copied := range map[string]func() error{
		"a broken image": func() error {
			return Fill(context.Background(), Copy{File: file, Image: image, To: newVolume(t, Qcow2, 8*vm.MiB)})
		},
		"a directory that is not there": func() error {
			to := vm.Volume{Path: filepath.Join(t.TempDir(), "missing", "volume.qcow2"), Format: Qcow2}
			return Fill(context.Background(), Copy{File: file, Image: image, To: to})
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := copied()
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

func TestCopyThatIsGivenUp(t *testing.T) {
	reason := errors.New("the task was stopped")
	for name, path := range images(t) {
		file, image := inspected(t, path)
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(reason)
		err := Fill(ctx, Copy{File: file, Image: image, To: newVolume(t, Raw, 8*vm.MiB)})
		if !errors.Is(err, reason) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error is %v, want one that names the image and why", name, err)
		}
	}
}

func TestProgramThatIsNotInstalled(t *testing.T) {
	file, image := inspected(t, images(t)["vdi"])
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	c := Copy{File: file, Image: image, To: vm.Volume{Path: filepath.Join(empty, "volume"), Format: Raw}}
	err := Fill(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), "util-linux") {
		t.Errorf("the error is %v, want one that names the package of prlimit", err)
	}
	if err := os.Symlink("/usr/bin/prlimit", filepath.Join(empty, "prlimit")); err != nil {
		t.Fatal(err)
	}
	err = Fill(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("the error is %v, want one that names the package of qemu-img", err)
	}
}
