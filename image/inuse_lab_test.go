//go:build lab

package image

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

// A VM is another QEMU than the one that has the device here; their locks are
// the same.
func TestDeviceThatAQEMUHasOpenIsRefused(t *testing.T) {
	at := loop(t, make([]byte, 4*vm.MiB))
	qemu := exec.CommandContext(t.Context(), "qemu-io", "-f", "raw", at)
	commands, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	// It answers when it has the device open.
	if _, err := commands.Write([]byte("length\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(answers).ReadString('4'); err != nil {
		t.Fatalf("qemu-io does not tell the length of %s: %v", at, err)
	}
	if device, err := OpenDevice(at); err == nil || !strings.Contains(err.Error(), "a VM has it open") {
		t.Errorf("got %+v and error %v, want that a VM has it open", device, err)
	}
	if err := RefuseInUse(at); err == nil || !strings.Contains(err.Error(), "a VM has it open") {
		t.Errorf("got error %v, want that a VM has it open", err)
	}
	commands.Close()
	if err := qemu.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := RefuseInUse(at); err != nil {
		t.Error(err)
	}
	openDevice(t, at)
}

func TestUnfinishedDeviceIsRefused(t *testing.T) {
	held := make([]byte, 4*vm.MiB)
	at := loop(t, held)
	if err := RefuseUnfinished(at); err != nil {
		t.Errorf("a blank device: %v, want no error", err)
	}
	copy(held, mark)
	at = loop(t, held)
	if err := RefuseUnfinished(at); err == nil || !strings.Contains(err.Error(), at) {
		t.Errorf("an unfinished device: %v, want an error that names it", err)
	}
}
