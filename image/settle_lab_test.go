//go:build lab

package image

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// In memory no time tells of a store to a mapped page.
func TestImageInMemoryIsHeld(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "image")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := dir + "/image"
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()

	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := path + " is open for writing; let whatever writes it end first"
	if _, err := Inspect(context.Background(), file, ""); err == nil || err.Error() != want {
		t.Errorf("while somebody has it open for writing, the error is %v, want %s", err, want)
	}
	writer.Close()

	image, err := Inspect(context.Background(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	to := newVolume(t, Raw, 64*vm.KiB)
	if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
		t.Errorf("nobody wrote, and the error is %v", err)
	}
	// Whoever opens it for writing would have to wait.
	if _, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("opening it for writing: %v, want %v", err, unix.EWOULDBLOCK)
	}
	if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err == nil {
		t.Error("somebody opened it for writing, and nobody says so")
	}
}
