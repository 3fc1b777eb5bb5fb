//go:build lab

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// small is a pool in a directory that has room for some bytes.
func small(t *testing.T, size vm.Bytes) *Directory {
	t.Helper()
	path := t.TempDir()
	run(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", size), "tmpfs", path)
	t.Cleanup(func() { run(t, "umount", path) })
	return realDirectory(t, path)
}

// fullError is what has to be told of a pool that is full.
var fullError = regexp.MustCompile(`storage pool \S+ at \S+ is full: \S+ \((\d+) bytes\) are needed, \S+( bytes)? \((\d+) bytes\) are free; ` +
	`make room there, or name another pool`)

func mustTellFull(t *testing.T, d *Directory, err error) {
	t.Helper()
	if err == nil || !fullError.MatchString(err.Error()) || !strings.Contains(err.Error(), d.Name+" at "+d.Path) {
		t.Errorf("the error is %v, want one like %s", err, fullError)
	}
}

// mustBeEmpty tells whether nothing is left, for libvirt and for the disk.
func (d *Directory) mustBeEmpty(t *testing.T) {
	t.Helper()
	if left, err := d.List(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("%q is left, %v", left, err)
	}
	if listed := strings.TrimSpace(run(t, "virsh", "-q", "vol-list", d.Name)); listed != "" {
		t.Errorf("libvirt lists %q still", listed)
	}
}

func TestWhatDoesNotFitIsRefusedBeforeAByteIsWritten(t *testing.T) {
	content := data('f', 32*mib)
	raw, rawIs := rawImage(t, content)
	packed, packedIs := qcow2Image(t, content)
	for name, test := range map[string]struct {
		format string
		sparse bool
		file   *os.File
		image  vm.Image
	}{
		"raw into raw":               {image.Raw, false, raw, rawIs},
		"raw into sparse raw":        {image.Raw, true, raw, rawIs},
		"raw into qcow2":             {image.Qcow2, true, raw, rawIs},
		"qcow2 into qcow2":           {image.Qcow2, true, packed, packedIs},
		"qcow2 into sparse raw":      {image.Raw, true, packed, packedIs},
		"qcow2 into qcow2, in full":  {image.Qcow2, false, packed, packedIs},
		"nothing, but that in full":  {format: image.Raw},
		"nothing, in a qcow2 of all": {format: image.Qcow2},
	} {
		t.Run(name, func(t *testing.T) {
			d := small(t, 16*mib)
			v := d.underTest(test.format).volume("disk", 32*mib)
			v.Sparse = test.sparse
			disk := vm.Disk{Device: "vda", Volume: v}
			if test.file != nil {
				disk.Image = &test.image
			}
			s := New(map[string]Pool{d.Name: d}, nil, 0)
			mustTellFull(t, d, s.Make(t.Context(), disk, test.file, (&events{}).tell))
			d.mustBeEmpty(t)
		})
	}
}

// A download has its zeros written, which a copy has not.
func TestImageOfZerosFitsIntoASmallPool(t *testing.T) {
	content := make([]byte, 32*mib)
	copy(content[20*mib:], data('f', mib))
	raw, rawIs := rawImage(t, content)
	for _, format := range []string{image.Raw, image.Qcow2} {
		d := small(t, 16*mib)
		v := d.underTest(format).volume("disk", 32*mib)
		s := New(map[string]Pool{d.Name: d}, nil, 0)
		must(t, s.Make(t.Context(), vm.Disk{Device: "vda", Volume: v, Image: &rawIs}, raw, (&events{}).tell))
		if got := d.underTest(format).read(t, v); !bytes.Equal(got, content) {
			t.Errorf("the %s volume is not the image", format)
		}
		must(t, d.Remove(t.Context(), v))
	}
}

// An image is checked while it is copied.
func TestDamagedImageBecomesNoDiskAndNoBase(t *testing.T) {
	file, _ := qcow2Image(t, data('f', 24*mib))
	must(t, os.Truncate(file.Name(), int64(16*mib)))
	img, err := image.Inspect(t.Context(), file, "")
	must(t, err)
	for name, base := range map[string]*vm.Base{"copied": nil, "chained": {}} {
		d := realDirectory(t, t.TempDir())
		u := d.underTest(image.Qcow2)
		disk := vm.Disk{Device: "vda", Volume: u.volume("disk", 24*mib), Image: &img}
		if base != nil {
			base.Volume, base.Staging = u.volume("base", 24*mib), u.volume("staging", 24*mib)
			disk.Base = base
		}
		s := New(map[string]Pool{d.Name: d}, nil, 0)
		err := s.Make(t.Context(), disk, file, (&events{}).tell)
		if err == nil || !strings.Contains(err.Error(), file.Name()+" is damaged or cut off; fetch it again") {
			t.Errorf("%s: the error is %v, want that the image is damaged", name, err)
		}
		if is, _ := d.Exists(t.Context(), "base"); is {
			t.Error("there is a base of it")
		}
		must(t, d.Remove(t.Context(), u.volume("disk", 0)))
		must(t, d.Remove(t.Context(), u.volume("staging", 0)))
		d.mustBeEmpty(t)
	}
}

// Somebody else fills the pool between the look at what is free and the end of
// the copy. A raw image is copied in pieces of 8 MiB, and Progress is told after
// the first: there have to be more.
func TestPoolThatFillsUpWhileAnImageIsCopied(t *testing.T) {
	const size = 24 * mib
	content := data('f', size)
	raw, rawIs := rawImage(t, content)
	packed, packedIs := qcow2Image(t, content)
	for _, copied := range []image.Copy{{File: raw, Image: rawIs}, {File: packed, Image: packedIs}} {
		format := copied.Image.Format
		t.Run(format, func(t *testing.T) {
			d := small(t, 2*size)
			copied.To = d.underTest(format).volume("disk", size)
			filler := filepath.Join(d.Path, "filler")
			fill := func() { _ = os.WriteFile(filler, make([]byte, 3*size), 0o600) } // as much as there is room for
			if format == image.Raw {
				copied.Progress = func(float64) { fill() }
				mustTellFull(t, d, d.Import(t.Context(), copied))
			} else {
				mustTellFull(t, d, importing(t, d, copied, fill))
			}
			must(t, d.Remove(t.Context(), copied.To))
			must(t, os.Remove(filler))
			run(t, "virsh", "-q", "pool-refresh", d.Name)
			d.mustBeEmpty(t)
		})
	}
}

// importing imports an image that is no raw one into a pool, and does something
// when qemu-img is about to copy it.
func importing(t *testing.T, p Pool, c image.Copy, meanwhile func()) error {
	t.Helper()
	dir := t.TempDir()
	begun, goOn := filepath.Join(dir, "begun"), filepath.Join(dir, "go-on")
	script := fmt.Sprintf("#!/bin/sh\n"+
		"if [ \"$1\" = convert ]; then : >%s; until [ -e %s ]; do sleep 0.05; done; fi\n"+
		"PATH=${PATH#*:} exec qemu-img \"$@\"\n", begun, goOn)
	must(t, os.WriteFile(filepath.Join(dir, "qemu-img"), []byte(script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))

	done := make(chan error, 1)
	go func() { done <- p.Import(t.Context(), c) }()
	eventually(t, "qemu-img begins", func() bool { return exists(begun) })
	meanwhile()
	must(t, os.WriteFile(goOn, nil, 0o600))
	select {
	case err := <-done:
		return err
	case <-time.After(2 * time.Minute):
		t.Fatal("the import has not ended within 2 min")
		return nil
	}
}

func TestCopyThatIsGivenUpSaysNothingOfRoom(t *testing.T) {
	content := data('f', 8*mib)
	raw, rawIs := rawImage(t, content)
	packed, packedIs := qcow2Image(t, content)
	for format, source := range map[string]image.Copy{
		image.Raw:   {File: raw, Image: rawIs},
		image.Qcow2: {File: packed, Image: packedIs},
	} {
		d := realDirectory(t, t.TempDir())
		why := errors.New("the task was stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		source.To = d.underTest(format).volume("disk", 8*mib)
		source.Progress = func(float64) { cancel(why) }
		err := d.Import(ctx, source)
		if !errors.Is(err, why) || strings.Contains(err.Error(), "is full") {
			t.Errorf("into a %s: %v, want an error of %q alone", format, err, why)
		}
		must(t, d.Remove(t.Context(), source.To))
		d.mustBeEmpty(t)
	}
}
