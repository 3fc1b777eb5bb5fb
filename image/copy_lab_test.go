//go:build lab

package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

func TestEveryFormatIsInspected(t *testing.T) {
	for name, path := range images(t) {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			if want := 8 * vm.MiB; image.Size != want {
				t.Errorf("it is a disk of %s, want %s", image.Size, want)
			}
			if format := name[strings.LastIndex(name, " ")+1:]; image.Format != format && name != "qcow2 v2" {
				t.Errorf("it is found to be %s, want %s", image.Format, format)
			}
			if err := Check(context.Background(), file, image); err != nil {
				t.Errorf("it is found to be damaged: %v", err)
			}
		})
	}
}

func TestFillFillsALargerVolume(t *testing.T) {
	for name, path := range images(t) {
		for _, format := range []string{Qcow2, Raw} {
			t.Run(name+" into "+format, func(t *testing.T) {
				file, image := inspected(t, path)
				to := newVolume(t, format, 64*vm.MiB)
				needs, err := Needs(context.Background(), file, image, to)
				if err != nil {
					t.Fatal(err)
				}
				var done []float64
				err = Fill(context.Background(), Copy{File: file, Image: image, To: to, Progress: func(d float64) { done = append(done, d) }})
				if err != nil {
					t.Fatal(err)
				}
				tool(t, "compare", "-f", image.Format, "-F", format, path, to.Path)
				judgeProgress(t, done)
				// 1 MiB of the data are zeros: that costs nothing.
				if got := used(t, to.Path); got > 3*vm.MiB {
					t.Errorf("the volume takes %s of the disk, the image has 2MiB of data: its holes are filled", got)
				}
				// A VDI has blocks of 1 MiB, and a fixed VHDX one of 8 MiB: all are data.
				if got := used(t, to.Path); needs < got || needs > 12*vm.MiB {
					t.Errorf("it was said to need %s, and takes %s", needs, got)
				}
				if _, after := inspected2(t, to.Path, format); after.Size != to.Size {
					t.Errorf("the volume is of %s afterwards, want %s", after.Size, to.Size)
				}
			})
		}
	}
}

func judgeProgress(t *testing.T, done []float64) {
	t.Helper()
	for i, d := range done {
		if d < 0 || d > 1 || i > 0 && d < done[i-1] {
			t.Errorf("the progress goes %v, want it to rise from 0 to 1", done)
			return
		}
	}
	if len(done) == 0 || done[len(done)-1] != 1 {
		t.Errorf("the progress goes %v, want it to end at 1", done)
	}
}

func inspected2(t *testing.T, path, format string) (*os.File, vm.Image) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	image, err := Inspect(context.Background(), file, format)
	if err != nil {
		t.Fatal(err)
	}
	return file, image
}

// A volume that was allocated keeps what it has.
func TestFillLeavesAVolumeAllocated(t *testing.T) {
	raw := rawImage(t)
	for format, options := range map[string]string{Raw: "preallocation=falloc", Qcow2: "preallocation=falloc"} {
		t.Run(format, func(t *testing.T) {
			file, image := inspected(t, raw)
			to := vm.Volume{Path: filepath.Join(t.TempDir(), "volume"), Format: format, Size: 16 * vm.MiB}
			tool(t, "create", "-q", "-f", format, "-o", options, to.Path, "16M")
			if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
				t.Fatal(err)
			}
			tool(t, "compare", "-f", Raw, "-F", format, raw, to.Path)
			needs, err := Needs(context.Background(), file, image, to)
			if err != nil {
				t.Fatal(err)
			}
			if got := used(t, to.Path); got < to.Size || got > needs {
				t.Errorf("the volume takes %s of the disk, want all of its %s, and no more than the %s that it is said to need", got, to.Size, needs)
			}
		})
	}
}

func TestFillRefusesASmallerVolume(t *testing.T) {
	raw := rawImage(t)
	for _, format := range []string{Raw, Qcow2} {
		t.Run(format, func(t *testing.T) {
			file, image := inspected(t, raw)
			to := newVolume(t, format, 4*vm.MiB)
			err := Fill(context.Background(), Copy{File: file, Image: image, To: to})
			if err == nil || !strings.Contains(err.Error(), "small") {
				t.Errorf("the error is %v, want one that says that the volume is too small", err)
			}
			if _, after := inspected2(t, to.Path, format); after.Size != to.Size {
				t.Errorf("the volume is of %s afterwards, want the %s that it was of", after.Size, to.Size)
			}
		})
	}
}

func TestCreateMakesAWholeFile(t *testing.T) {
	for name, path := range images(t) {
		for _, format := range []string{Qcow2, Raw} {
			t.Run(name+" as "+format, func(t *testing.T) {
				file, image := inspected(t, path)
				to := vm.Volume{Path: filepath.Join(t.TempDir(), "base"), Format: format}
				if err := Create(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
					t.Fatal(err)
				}
				tool(t, "compare", "-f", image.Format, "-F", format, path, to.Path)
				if _, made := inspected2(t, to.Path, format); made.Size != image.Size {
					t.Errorf("the base is of %s, the image of %s", made.Size, image.Size)
				}
			})
		}
	}
}

// A disk is of whole sectors, and a file need not be.
func TestRawImageOfOddSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.img")
	odd := noise("odd", vm.MiB+4096+100)
	if err := os.WriteFile(path, odd, 0o600); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(odd, make([]byte, 512-100))
	for _, dir := range []string{t.TempDir(), mountXFS(t)} {
		file, image := inspected(t, path)
		if dir != filepath.Dir(path) { // on the same file system, blocks can be shared
			copied := filepath.Join(dir, "image.img")
			if err := os.WriteFile(copied, odd, 0o600); err != nil {
				t.Fatal(err)
			}
			file, image = inspected(t, copied)
		}
		to := vm.Volume{Path: filepath.Join(dir, "base"), Format: Raw}
		if err := Create(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
			t.Fatal(err)
		}
		if got := content(t, to.Path); !bytes.Equal(got, want) {
			t.Errorf("in %s: the file of %d bytes is not the image and zeros to the end of its sector, %d bytes", dir, len(got), len(want))
		}
	}
}

// mountXFS returns a directory of a file system that shares blocks.
func mountXFS(t *testing.T) string {
	t.Helper()
	disk, dir := filepath.Join(t.TempDir(), "xfs.img"), t.TempDir()
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, int64(512*vm.MiB)); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.xfs", "-q", disk)
	run(t, "mount", "-o", "loop", disk, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	return dir
}

func TestRawCopySharesBlocksWhereItMay(t *testing.T) {
	dir := mountXFS(t)
	path := filepath.Join(dir, "image.img")
	data := noise("shared", 32*vm.MiB)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, sparse := range []bool{true, false} {
		file, image := inspected(t, path)
		to := vm.Volume{Path: filepath.Join(dir, "volume"), Format: Raw, Size: 64 * vm.MiB, Sparse: sparse}
		if err := os.WriteFile(to.Path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(to.Path, int64(to.Size)); err != nil {
			t.Fatal(err)
		}
		if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
			t.Fatal(err)
		}
		if got := content(t, to.Path); len(got) != int(to.Size) || !bytes.Equal(got[:len(data)], data) || !isZero(got[len(data):]) {
			t.Error("the volume is not the image, with zeros behind it")
		}
		run(t, "sync", "-f", to.Path)
		if shared := strings.Contains(run(t, "filefrag", "-v", to.Path), "shared"); shared != sparse {
			t.Errorf("with sparse = %v, its blocks are shared: %v", sparse, shared)
		}
	}
}

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
			if err := os.WriteFile(path, content(t, other), 0o600); err != nil { // the same inode
				t.Fatal(err)
			}

			to := newVolume(t, Raw, 1*vm.MiB)
			refused := map[string]error{
				"Create": Create(context.Background(), Copy{File: file, Image: image, To: vm.Volume{Path: filepath.Join(dir, "base.img"), Format: Raw}}),
				"Fill":   Fill(context.Background(), Copy{File: file, Image: image, To: to}),
				"Check":  Check(context.Background(), file, image),
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

func TestRawImageThatIsWrittenMeanwhileIsRefused(t *testing.T) {
	path := rawImage(t)
	for name, write := range map[string]func() error{
		"it grows":   func() error { return os.Truncate(path, int64(9*vm.MiB)) },
		"it is less": func() error { return os.Truncate(path, int64(vm.MiB)) },
	} {
		file, image := inspected(t, path)
		written := false
		err := Fill(context.Background(), Copy{File: file, Image: image, To: newVolume(t, Raw, 16*vm.MiB), Progress: func(float64) {
			if !written {
				written = true
				if err := write(); err != nil {
					t.Fatal(err)
				}
			}
		}})
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
			return Create(context.Background(), Copy{File: file, Image: image, To: to})
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
	err := Create(context.Background(), Copy{File: file, Image: image, To: vm.Volume{Path: filepath.Join(empty, "v"), Format: Raw}})
	if err == nil || !strings.Contains(err.Error(), "util-linux") {
		t.Errorf("the error is %v, want one that names the package of prlimit", err)
	}
	if err := os.Symlink("/usr/bin/prlimit", filepath.Join(empty, "prlimit")); err != nil {
		t.Fatal(err)
	}
	err = Create(context.Background(), Copy{File: file, Image: image, To: vm.Volume{Path: filepath.Join(empty, "v"), Format: Raw}})
	if err == nil || !strings.Contains(err.Error(), "qemu-utils") {
		t.Errorf("the error is %v, want one that names the package of qemu-img", err)
	}
}
