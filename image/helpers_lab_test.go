//go:build lab

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nomad-driver-virt/vm"
)

func tool(t testing.TB, args ...string) {
	t.Helper()
	run(t, "qemu-img", args...)
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// noise is data that does not compress, the same for each seed.
func noise(seed string, length vm.Bytes) []byte {
	var data bytes.Buffer
	for sum := sha256.Sum256([]byte(seed)); data.Len() < int(length); sum = sha256.Sum256(sum[:]) {
		data.Write(sum[:])
	}
	return data.Bytes()[:length]
}

// rawImage writes a raw image of 8 MiB: 1 MiB of data at its start and at its
// middle, 1 MiB of zeros that are data, and holes.
func rawImage(t testing.TB) string {
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
	for offset, data := range map[vm.Bytes][]byte{
		0:          noise("first", vm.MiB),
		2 * vm.MiB: make([]byte, vm.MiB),
		4 * vm.MiB: noise("second", vm.MiB),
	} {
		if _, err := file.WriteAt(data, int64(offset)); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// inspected opens and inspects an image, as a start does.
func inspected(t testing.TB, path string) (*os.File, vm.Image) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	image, err := Inspect(context.Background(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	return file, image
}

func used(t testing.TB, path string) vm.Bytes {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return vm.Bytes(st.Blocks * 512)
}

// images are one disk in every form that an image may have.
func images(t testing.TB) map[string]string {
	t.Helper()
	raw, dir := rawImage(t), t.TempDir()
	all := map[string]string{"raw": raw}
	for name, options := range map[string][]string{
		"qcow2":            {"-O", "qcow2"},
		"qcow2 v2":         {"-O", "qcow2", "-o", "compat=0.10"},
		"compressed qcow2": {"-c", "-O", "qcow2"},
		"zstd qcow2":       {"-c", "-O", "qcow2", "-o", "compression_type=zstd"},
		"vmdk":             {"-O", "vmdk"},
		"streamed vmdk":    {"-O", "vmdk", "-o", "subformat=streamOptimized"},
		"vdi":              {"-O", "vdi"},
		"static vdi":       {"-O", "vdi", "-o", "static=on"},
		"vhdx":             {"-O", "vhdx"},
		"fixed vhdx":       {"-O", "vhdx", "-o", "subformat=fixed"},
		"vpc":              {"-O", "vpc", "-o", "force_size=on"},
		"fixed vpc":        {"-O", "vpc", "-o", "subformat=fixed,force_size=on"},
	} {
		all[name] = filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		tool(t, append(append([]string{"convert"}, options...), raw, all[name])...)
	}
	return all
}

// newVolume makes an empty volume as libvirt would.
func newVolume(t testing.TB, format string, size vm.Bytes) vm.Volume {
	t.Helper()
	return newVolumeIn(t, t.TempDir(), format, size)
}

func newVolumeIn(t testing.TB, dir, format string, size vm.Bytes) vm.Volume {
	t.Helper()
	to := vm.Volume{Path: filepath.Join(dir, "volume, of a task."+format), Format: format, Size: size, Sparse: true}
	tool(t, "create", "-q", "-f", format, to.Path, fmt.Sprint(uint64(size)))
	return to
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func leaks(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("qemu-img", "check", "-f", "qcow2", path).CombinedOutput()
	if err == nil {
		t.Fatal("qemu-img check finds nothing")
	}
	return string(out)
}
