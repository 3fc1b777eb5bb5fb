//go:build lab

package image

import (
	"bytes"
	"context"
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
				tell := func(d float64) { done = append(done, d) }
				err = Fill(context.Background(), Copy{File: file, Image: image, To: to, Progress: tell})
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
				t.Errorf("the volume takes %s of the disk, want from its %s to the %s that it is said to need", got, to.Size, needs)
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

// A disk is of whole blocks, and a file need not be.
func TestRawImageOfOddSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.img")
	odd := noise("odd", vm.MiB+4096+100)
	if err := os.WriteFile(path, odd, 0o600); err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(odd, make([]byte, 1024-100))
	for _, dir := range []string{t.TempDir(), mountXFS(t)} {
		file, image := inspected(t, path)
		if dir != filepath.Dir(path) { // on the same file system, blocks can be shared
			copied := filepath.Join(dir, "image.img")
			if err := os.WriteFile(copied, odd, 0o600); err != nil {
				t.Fatal(err)
			}
			file, image = inspected(t, copied)
		}
		for _, format := range []string{Raw, Qcow2} {
			to := newVolumeIn(t, dir, format, vm.Bytes(len(want)))
			if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
				t.Fatal(err)
			}
			if format == Qcow2 {
				tool(t, "convert", "-O", "raw", to.Path, to.Path+".raw")
				to.Path += ".raw"
			}
			if got := content(t, to.Path); !bytes.Equal(got, want) {
				t.Errorf("in %s, %s: %d bytes are not the %d of the image, and zeros to the end of its block", dir, format, len(got), len(want))
			}
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
		if got := content(t, to.Path); !bytes.Equal(got, append(bytes.Clone(data), make([]byte, 32*vm.MiB)...)) {
			t.Error("the volume is not the image, with zeros behind it")
		}
		run(t, "sync", "-f", to.Path)
		if shared := strings.Contains(run(t, "filefrag", "-v", to.Path), "shared"); shared != sparse {
			t.Errorf("with sparse = %v, its blocks are shared: %v", sparse, shared)
		}
	}
}
