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

// loop returns a block device with a content.
func loop(t *testing.T, held []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, held, 0o600); err != nil {
		t.Fatal(err)
	}
	device := run(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() { run(t, "losetup", "--detach", device) })
	return device
}

func openDevice(t *testing.T, path string) *Device {
	t.Helper()
	device, err := OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device
}

func state(t *testing.T, device *Device) State {
	t.Helper()
	state, err := device.State()
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// disk returns the content of a disk that has a byte at an offset; negative
// ones count from the end.
func diskWith(size vm.Bytes, offset int) []byte {
	disk := make([]byte, size)
	if offset < 0 {
		offset += len(disk)
	}
	disk[offset] = 1
	return disk
}

func TestDeviceTellsWhatItHolds(t *testing.T) {
	for name, test := range map[string]struct {
		disk []byte
		want State
	}{
		"nothing":                            {make([]byte, 4*vm.MiB), Blank},
		"a boot sector":                      {diskWith(4*vm.MiB, 510), HoldsData},
		"a byte at the end of the first MiB": {diskWith(4*vm.MiB, 1<<20-1), HoldsData},
		"a backup of a partition table":      {diskWith(4*vm.MiB, -512), HoldsData},
		"a byte in the last MiB":             {diskWith(4*vm.MiB, -1<<20), HoldsData},
		"a mark":                             {append(bytes.Clone(mark), make([]byte, 4*vm.MiB)...), Unfinished},
		"a mark, and data":                   {append(bytes.Clone(mark), diskWith(4*vm.MiB, 5000)...), Unfinished},
		"a part of a mark":                   {append(bytes.Clone(mark[:40]), make([]byte, 4*vm.MiB-40)...), HoldsData},
		"nothing, in less than a MiB":        {make([]byte, 64*vm.KiB), Blank},
		"data, in less than a MiB":           {diskWith(64*vm.KiB, 3000), HoldsData},
	} {
		t.Run(name, func(t *testing.T) {
			if got := state(t, openDevice(t, loop(t, test.disk))); got != test.want {
				t.Errorf("it is %q, want %q", got, test.want)
			}
		})
	}
}

func TestDeviceIsFilledWhateverItHeld(t *testing.T) {
	raw := rawImage(t)
	want := content(t, raw)
	const size = 16 * vm.MiB
	old := bytes.Repeat([]byte{0xaa}, int(size))
	for name, path := range images(t) {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			at := loop(t, old)
			device := openDevice(t, at)
			if device.Size != size {
				t.Errorf("the device is of %s, want %s", device.Size, size)
			}
			var during []State
			var done []float64
			err := device.Fill(context.Background(), Copy{File: file, Image: image, Progress: func(d float64) {
				during, done = append(during, state(t, device)), append(done, d)
			}})
			if err != nil {
				t.Fatal(err)
			}
			judgeProgress(t, done)
			for _, s := range during {
				if s != Unfinished {
					t.Fatalf("during the fill the device is seen as %q, want %q", s, Unfinished)
				}
			}
			if got := state(t, device); got != HoldsData {
				t.Errorf("the device is %q afterwards, want %q", got, HoldsData)
			}
			device.Close()
			got := content(t, at)
			if !bytes.Equal(got[:len(want)], want) {
				t.Error("the device does not read as the image")
			}
			if behind := got[len(want) : size-vm.MiB]; !bytes.Equal(behind, old[:len(behind)]) {
				t.Error("what was behind the image's end is not what it was")
			}
			if !isZero(got[size-vm.MiB:]) {
				t.Error("the last MiB is not zeros: there may be another disk's partition table")
			}
		})
	}
}

// What ends where the image does, or near.
func TestDeviceIsFilledToItsEnd(t *testing.T) {
	for name, sizes := range map[string]struct{ image, device int }{
		"one byte":                   {1, 64 << 10},
		"a sector":                   {512, 64 << 10},
		"a sector and a byte":        {513, 64 << 10},
		"the whole of a small one":   {64 << 10, 64 << 10},
		"a MiB":                      {1 << 20, 4 << 20},
		"a MiB and a byte":           {1<<20 + 1, 4 << 20},
		"all":                        {4 << 20, 4 << 20},
		"all but a byte":             {4<<20 - 1, 4 << 20},
		"all but a part of last MiB": {4<<20 - 5000, 4 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image.img")
			data := noise(name, vm.Bytes(sizes.image))
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			old := bytes.Repeat([]byte{0xaa}, sizes.device)
			file, image := inspected(t, path)
			at := loop(t, old)
			device := openDevice(t, at)
			if err := device.Fill(context.Background(), Copy{File: file, Image: image}); err != nil {
				t.Fatal(err)
			}
			device.Close()
			got := content(t, at)
			if !bytes.Equal(got[:len(data)], data) {
				t.Error("the device does not read as the image")
			}
			sectorEnd := int(wholeSectors(image.Size))
			if !isZero(got[len(data):sectorEnd]) {
				t.Error("the image's last sector does not end with zeros")
			}
			if !isZero(got[max(sectorEnd, sizes.device-1<<20):]) {
				t.Error("the last MiB behind the image is not zeros")
			}
		})
	}
}

func TestDeviceThatIsNotFilledIsUnfinished(t *testing.T) {
	reason := errors.New("the task was stopped")
	all := images(t)
	for name, path := range map[string]string{"raw": all["raw"], "qcow2": all["qcow2"]} {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			at := loop(t, diskWith(16*vm.MiB, 0))
			device := openDevice(t, at)
			ctx, cancel := context.WithCancelCause(context.Background())
			cancel(reason)
			err := device.Fill(ctx, Copy{File: file, Image: image})
			if !errors.Is(err, reason) || !strings.Contains(err.Error(), "filling "+at+", which is unfinished now") {
				t.Errorf("the error is %v, want one that names the device and why", err)
			}
			if got := state(t, device); got != Unfinished {
				t.Errorf("the device is %q, want %q", got, Unfinished)
			}
			// It is filled by the next who tries.
			if err := device.Fill(context.Background(), Copy{File: file, Image: image}); err != nil {
				t.Fatal(err)
			}
			if got := state(t, device); got != HoldsData {
				t.Errorf("the device is %q after all, want %q", got, HoldsData)
			}
		})
	}
}

// Progress is told between the first write and the last.
func TestDeviceOfAnImageThatIsWrittenMeanwhileIsUnfinished(t *testing.T) {
	all := images(t)
	for name, path := range map[string]string{"raw": all["raw"], "qcow2": all["qcow2"]} {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			device := openDevice(t, loop(t, make([]byte, 16*vm.MiB)))
			err := device.Fill(context.Background(), Copy{File: file, Image: image, Progress: func(float64) {
				if err := os.Truncate(path, int64(image.Size)+1); err != nil {
					t.Error(err)
				}
			}})
			if err == nil || !strings.Contains(err.Error(), "was written while") {
				t.Errorf("the error is %v, want one that says that the image was written", err)
			}
			if got := state(t, device); got != Unfinished {
				t.Errorf("the device is %q, want %q", got, Unfinished)
			}
		})
	}
}

func TestDeviceThatIsTooSmallIsLeftAsItIs(t *testing.T) {
	file, image := inspected(t, rawImage(t))
	old := bytes.Repeat([]byte{0xaa}, int(8*vm.MiB-512))
	at := loop(t, old)
	err := openDevice(t, at).Fill(context.Background(), Copy{File: file, Image: image})
	want := at + " is too small for the image " + image.Path + ", which is a disk of 8MiB: it lacks 512 bytes"
	if err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
	if !bytes.Equal(content(t, at), old) {
		t.Error("the device was written to")
	}
}

func TestOpenDeviceRefuses(t *testing.T) {
	at := loop(t, make([]byte, 16*vm.MiB))
	run(t, "mkfs.ext4", "-q", at)
	mounted := loop(t, content(t, at))
	dir := t.TempDir()
	run(t, "mount", mounted, dir)
	t.Cleanup(func() { run(t, "umount", dir) })
	openDevice(t, at)
	regular := filepath.Join(dir, "file")
	if err := os.WriteFile(regular, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inUse := " is in use on the host: it is mounted, open elsewhere, or part of another device, "
	for name, test := range map[string]struct{ path, want string }{
		"a device that is mounted":       {mounted, "the block device " + mounted + inUse},
		"a device that is open":          {at, "the block device " + at + inUse},
		"a file":                         {regular, regular + " is no block device"},
		"a device of characters":         {"/dev/null", "/dev/null is no block device"},
		"a FIFO":                         {newFIFO(t), "is no block device"},
		"a directory":                    {dir, dir + " is no block device"},
		"a device that does not exist":   {"/dev/nothing", "no such file or directory"},
		"a device that has no disk here": {freeLoop(t), "is of no size"},
	} {
		t.Run(name, func(t *testing.T) {
			device, err := OpenDevice(test.path)
			if err == nil {
				device.Close()
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the error is %v, want %s", err, test.want)
			}
		})
	}
}

func freeLoop(t *testing.T) string {
	t.Helper()
	return run(t, "losetup", "--find")
}
