//go:build lab

package image

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// Whenever the plugin is killed, the device is unfinished or has all of the
// image.
func TestDeviceIsNeverHalfFilledAndLooksWhole(t *testing.T) {
	if at := os.Getenv("TEST_FILL_DEVICE"); at != "" { // this is the plugin
		file, image := inspected(t, os.Getenv("TEST_FILL_FROM"))
		if err := openDevice(t, at).Fill(context.Background(), Copy{File: file, Image: image}); err != nil {
			t.Fatal(err)
		}
		return
	}
	raw := filepath.Join(t.TempDir(), "image.img")
	want := noise("crash", 48*vm.MiB)
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	qcow2 := raw + ".qcow2"
	tool(t, "convert", "-O", "qcow2", raw, qcow2)
	old := bytes.Repeat([]byte{0xaa}, int(64*vm.MiB))
	states := make(map[State]int)
	for _, path := range []string{raw, qcow2} {
		for wait := time.Duration(0); wait < 200*time.Millisecond; wait += 25 * time.Millisecond {
			t.Run(filepath.Base(path)+" "+wait.String(), func(t *testing.T) {
				at := loop(t, old)
				killWhileFilling(t, at, path, wait)
				s := state(t, openDevice(t, at))
				states[s]++
				if got := content(t, at); s != Unfinished && !bytes.Equal(got[:len(want)], want) {
					t.Errorf("the device is %q and has not all of the image", s)
				}
			})
		}
	}
	t.Log(states)
	if states[Unfinished] == 0 {
		t.Error("no fill was killed before its end")
	}
}

// killWhileFilling has another plugin fill a device, and kills it some time
// after it has begun.
func killWhileFilling(t *testing.T, device, path string, wait time.Duration) {
	t.Helper()
	old := start(t, device)
	plugin := exec.Command(os.Args[0], "-test.run=^TestDeviceIsNeverHalfFilledAndLooksWhole$")
	plugin.Env = append(os.Environ(), "TEST_FILL_DEVICE="+device, "TEST_FILL_FROM="+path)
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the device to be written to", func() bool { return !bytes.Equal(start(t, device), old) })
	time.Sleep(wait)
	_ = plugin.Process.Kill() // it may have ended
	_ = plugin.Wait()
	// It holds the device as well.
	waitFor(t, "qemu-img to die", func() bool {
		opened, err := OpenDevice(device)
		if err != nil {
			return false
		}
		opened.Close()
		return true
	})
}

func start(t *testing.T, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	first := make([]byte, sector)
	if _, err := file.ReadAt(first, 0); err != nil {
		t.Fatal(err)
	}
	return first
}
