//go:build lab

package storage

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// device returns a block device that holds some bytes.
func device(t *testing.T, held []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "device")
	must(t, os.WriteFile(file, held, 0o600))
	at := strings.TrimSpace(run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { run(t, "losetup", "--detach", at) })
	return at
}

// unfinished has a device be one to which an image is being written.
func unfinished(t *testing.T, at string) {
	t.Helper()
	file, img := rawImage(t, data('u', 4*mib))
	opened, err := image.OpenDevice(at)
	must(t, err)
	defer opened.Close()
	ctx, cancel := context.WithCancel(t.Context())
	err = opened.Fill(ctx, image.Copy{File: file, Image: img, Progress: func(float64) { cancel() }})
	if state, _ := opened.State(); err == nil || state != image.Unfinished {
		t.Fatalf("a copy that was given up leaves the device %s, %v, want it unfinished", state, err)
	}
}

func TestDeviceIsWrittenWhenThatIsWanted(t *testing.T) {
	const size = 8 * mib
	old, content := data('o', size), data('n', 4*mib)
	file, img := rawImage(t, content)
	const (
		wrote = `^Wrote image IMAGE to disk vdb, DEVICE, in [0-9.]+m?s$`
		left  = `^Disk vdb was left as it is: DEVICE holds data already, image IMAGE was not written to it; ` +
			`source \{ overwrite = true \} has it written$`
	)
	for _, test := range []struct {
		name             string
		held             []byte
		unfinished       bool
		overwrite, again bool // and that was done in this allocation
		written          bool
		event            string // "": none
	}{
		{name: "blank", held: make([]byte, size), written: true, event: wrote},
		{name: "holds data", held: old, event: left},
		{name: "unfinished", held: old, unfinished: true, written: true, event: wrote},
		{name: "blank, to be overwritten", held: make([]byte, size), overwrite: true, written: true, event: wrote},
		{name: "holds data, to be overwritten", held: old, overwrite: true, written: true, event: wrote},
		{name: "holds data, overwritten in this allocation", held: old, overwrite: true, again: true},
		{name: "blank, overwritten in this allocation", held: make([]byte, size), overwrite: true, again: true},
		{name: "unfinished, to be overwritten", held: old, unfinished: true, overwrite: true, written: true, event: wrote},
		{name: "unfinished, overwritten in this allocation", held: old, unfinished: true, overwrite: true, again: true, written: true, event: wrote},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := device(t, test.held)
			if test.unfinished {
				unfinished(t, at)
			}
			d := vm.Disk{Device: "vdb", Volume: vm.Volume{Path: at, Format: "raw", Size: size}, Image: &img}
			if test.overwrite {
				d.OverwriteOnce = filepath.Join(t.TempDir(), ".written-vdb")
			}
			if test.again {
				must(t, os.WriteFile(d.OverwriteOnce, nil, 0o600))
			}
			s := inPool(&fakePool{})
			var told events
			must(t, s.Make(t.Context(), d, file, told.tell))
			mustHold(t, at, test.written, content, test.held)
			mustTell(t, &told, test.event, img.Path, at)

			// A restart within the allocation.
			must(t, os.WriteFile(at, data('g', 4096), 0o600)) // the guest
			told = events{}
			must(t, s.Make(t.Context(), d, file, told.tell))
			if got, err := os.ReadFile(at); err != nil || got[0] != 'g' {
				t.Errorf("a restart writes over what the guest wrote (%v)", err)
			}
		})
	}
}

// mustHold tells whether a device begins with an image, or holds what it did.
func mustHold(t *testing.T, at string, written bool, content, held []byte) {
	t.Helper()
	got, err := os.ReadFile(at)
	must(t, err)
	if is := bytes.HasPrefix(got, content); is != written {
		t.Errorf("the device begins with the image: %t, want %t", is, written)
	}
	if !written && !bytes.Equal(got, held) {
		t.Error("the device does not hold what it did, want it to be left alone")
	}
}

func mustTell(t *testing.T, told *events, want, imagePath, at string) {
	t.Helper()
	got := strings.NewReplacer(imagePath, "IMAGE", at, "DEVICE").Replace(strings.Join(told.all, "\n"))
	if (want == "") != (got == "") || !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("the events are %q, want one like %q, or none if that is empty", got, want)
	}
}

func TestDeviceWithoutAnImageIsNotTouched(t *testing.T) {
	held := data('o', 4*mib)
	d := vm.Disk{Device: "vdb", OverwriteOnce: filepath.Join(t.TempDir(), ".written-vdb")}
	d.Volume.Path = device(t, held)
	must(t, inPool(&fakePool{}).Make(t.Context(), d, nil, nil))
	mustHold(t, d.Volume.Path, false, data('n', mib), held)
	if exists(d.OverwriteOnce) {
		t.Error("it is taken to be written")
	}
}

func TestNoGuestBootsFromHalfAnImage(t *testing.T) {
	at := device(t, make([]byte, 8*mib))
	unfinished(t, at)
	err := inPool(&fakePool{}).Make(t.Context(), vm.Disk{Device: "vdb", Volume: vm.Volume{Path: at}}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("a job without an image on a device that is unfinished: %v, want an error that names it, and why", err)
	}
}

// The image changes between its inspection and the copy: that is refused, and
// not taken for done at the next start of the allocation.
func TestOverwriteThatFailedBeforeItBeganIsTriedAgain(t *testing.T) {
	at := device(t, data('o', 8*mib))
	content := data('n', 4*mib)
	file, img := rawImage(t, content)
	d := vm.Disk{
		Device:        "vdb",
		Volume:        vm.Volume{Path: at, Format: "raw", Size: 8 * mib},
		Image:         &img,
		OverwriteOnce: filepath.Join(t.TempDir(), ".written-vdb"),
	}
	must(t, os.WriteFile(img.Path, data('x', 4*mib), 0o600))
	s := inPool(&fakePool{})
	if err := s.Make(t.Context(), d, file, (&events{}).tell); err == nil || !strings.Contains(err.Error(), img.Path) {
		t.Fatalf("an image that was written meanwhile: %v, want an error that names it", err)
	}
	file, img = rawImage(t, content)
	var told events
	must(t, s.Make(t.Context(), d, file, told.tell))
	mustHold(t, at, true, content, nil)
	mustTell(t, &told, `^Wrote image IMAGE to disk vdb, DEVICE, in `, img.Path, at)
}

func TestDeviceThatIsInUseIsNamed(t *testing.T) {
	at := device(t, make([]byte, 8*mib))
	other, err := image.OpenDevice(at)
	must(t, err)
	defer other.Close()
	file, img := rawImage(t, data('n', mib))
	for _, what := range []struct {
		name     string
		image    *vm.Image
		readOnly bool
		refused  bool
	}{
		{"an image is to be written", &img, false, true},
		{"a guest is to write to it", nil, false, true},
		{"a guest is to read it", nil, true, false},
	} {
		d := vm.Disk{
			Device: "vdb", Volume: vm.Volume{Path: at, Format: "raw", Size: 8 * mib},
			Image: what.image, ReadOnly: what.readOnly,
		}
		err := inPool(&fakePool{}).Make(t.Context(), d, file, (&events{}).tell)
		if (err != nil) != what.refused {
			t.Errorf("%s, and another has it open: %v, want it refused: %t", what.name, err, what.refused)
		}
		if err != nil && (!strings.Contains(err.Error(), at) || !strings.Contains(err.Error(), "in use")) {
			t.Errorf("%s: %v, want an error that names the device, and that it is in use", what.name, err)
		}
	}
}
