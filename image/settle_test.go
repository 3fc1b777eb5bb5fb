package image

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A program that has an image mapped writes to it without a system call. Either
// it is refused at once, or it is seen that it wrote.
func TestStoreToAMappedImageIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	mapped, err := unix.Mmap(int(writer.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapped)
	mapped[0] = 1 // from here on the page is writable

	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	image, err := Inspect(context.Background(), file, "")
	if err != nil {
		if !strings.Contains(err.Error(), "is open for writing") {
			t.Error(err)
		}
		return
	}
	if err := unwritten(file, image); err != nil {
		t.Errorf("nobody wrote, and the error is %v", err)
	}
	mapped[1] = 2
	if err := unwritten(file, image); err == nil {
		t.Error("the image was written after it was inspected, and nobody says so")
	}
}

func TestWriteRightAfterAnInspectionIsSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	for range 10 {
		if err := os.WriteFile(path, []byte("one"), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		image, err := Inspect(context.Background(), file, "")
		if err != nil {
			t.Fatal(err)
		}
		writer, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err == nil { // where a lease is broken, it is EWOULDBLOCK
			_, err = writer.WriteString("two")
			writer.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := unwritten(file, image); err == nil {
			t.Error("the image was written after it was inspected, and nobody says so")
		}
		file.Close()
	}
}
