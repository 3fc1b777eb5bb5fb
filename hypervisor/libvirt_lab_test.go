//go:build lab

package hypervisor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// These tests run inside the lab: lab/lab run go test -tags lab ./hypervisor

const (
	system = "qemu:///system"
	alloc  = "8f2c1d6e-3a4b-4c5d-9e6f-7a8b9c0d1e2f"
)

// connected returns the lab's libvirt.
func connected(t *testing.T, uri string) *Host {
	t.Helper()
	h, _ := run(t, uri)
	must(t, h.Health(within(t, 10*time.Second)))
	return h
}

func virsh(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("virsh", append([]string{"-q", "-c", system}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("virsh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newPool returns a storage pool in a directory of its own.
func newPool(t *testing.T, h *Host) (name, path string) {
	t.Helper()
	path = t.TempDir()
	name = strings.ReplaceAll(strings.TrimPrefix(path, os.TempDir()+"/"), "/", "-")
	must(t, h.EnsureDirectoryPool(t.Context(), name, path))
	t.Cleanup(func() {
		_ = exec.Command("virsh", "-q", "pool-destroy", name).Run() // a test may have stopped it
		virsh(t, "pool-undefine", name)
	})
	return name, path
}

func volumeIn(pool, dir, name string) vm.Volume {
	return vm.Volume{Pool: pool, Name: name, Path: filepath.Join(dir, name), Format: "qcow2", Size: 8 * vm.MiB, Sparse: true}
}

// machine returns a VM whose disk is empty: its firmware finds nothing to boot,
// and waits.
func machine(t *testing.T, h *Host, name string) *vm.Spec {
	t.Helper()
	pool, dir := newPool(t, h)
	s := &vm.Spec{
		Name:  name,
		Owner: vm.Owner{Namespace: "default", Job: "job", Group: "group", Task: "task", Alloc: alloc, TaskID: alloc + "/task/5a6e215e"},
		Accel: vm.TCG, CPUModel: vm.CPUMaximum, Arch: "x86_64", VCPUs: 1, Memory: 64 * vm.MiB,
		Disks:      []vm.Disk{{Volume: volumeIn(pool, dir, name+".qcow2"), Device: "vda", Bus: "virtio"}},
		Interfaces: []vm.Interface{{Bridge: "virbr0", Network: "default", MAC: "52:54:00:12:34:56"}},
		SeedVolume: volumeIn(pool, dir, name+"-seed.img"),
	}
	s.SeedVolume.Format = "raw"
	for _, v := range s.Volumes() {
		must(t, h.CreateVolume(t.Context(), v, nil))
	}
	t.Cleanup(func() {
		ctx := context.Background() // the test's own has ended
		if err := h.Destroy(ctx, name); err != nil {
			t.Error(err)
		}
		if err := h.Undefine(ctx, name); err != nil {
			t.Error(err)
		}
		for _, v := range s.Volumes() {
			if err := h.RemoveVolume(ctx, v); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func started(t *testing.T, h *Host, name string) *vm.Spec {
	t.Helper()
	s := machine(t, h, name)
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), name))
	must(t, h.Resume(t.Context(), name))
	return s
}

func mustRun(t *testing.T, h *Host, name string, want bool) {
	t.Helper()
	if got, err := h.Running(t.Context(), name); err != nil || got != want {
		t.Errorf("Running(%s) = %t, %v, want %t", name, got, err, want)
	}
}

func mustBe(t *testing.T, name, want string) {
	t.Helper()
	if got := strings.TrimSpace(virsh(t, "domstate", name)); got != want {
		t.Errorf("libvirt says that %s is %s, want %s", name, got, want)
	}
}

// lab runs a command of the lab that this runs in.
func lab(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("../lab/lab", command)
	cmd.Env = append(os.Environ(), "LAB_NAME="+os.Getenv("LAB_INSIDE"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lab %s: %v\n%s", command, err, out)
	}
}
