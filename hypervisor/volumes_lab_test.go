//go:build lab

package hypervisor

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

func TestEnsureDirectoryPool(t *testing.T) {
	h := connected(t, system)
	name, path := newPool(t, h)
	must(t, h.EnsureDirectoryPool(t.Context(), name, path+"/"))
	for _, want := range []string{"State: running", "Autostart: yes", "Persistent: yes"} {
		if info := strings.Join(strings.Fields(virsh(t, "pool-info", name)), " "); !strings.Contains(info, want) {
			t.Errorf("the pool is %q, want %q", info, want)
		}
	}

	virsh(t, "pool-destroy", name)
	must(t, os.Remove(path))
	mustSay(t, h.EnsureDirectoryPool(t.Context(), name, path), name, path, "not there", "mount")
	mustExist(t, path, false) // it would hide what comes back with a file system
	must(t, os.Mkdir(path, 0o711))

	started := make(chan error)
	for range 8 {
		go func() { started <- h.EnsureDirectoryPool(t.Context(), name, path) }()
	}
	for range 8 {
		must(t, <-started)
	}

	other := t.TempDir()
	mustSay(t, h.EnsureDirectoryPool(t.Context(), name, other), name, path, other)
}

func mustExist(t *testing.T, path string, want bool) {
	t.Helper()
	if _, err := os.Stat(path); (err == nil) != want {
		t.Errorf("%s: %v, want it there: %t", path, err, want)
	}
}

func TestVolumes(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	ctx := t.Context()
	base, overlay, full := volumeIn(pool, dir, "base.qcow2"), volumeIn(pool, dir, "overlay.qcow2"), volumeIn(pool, dir, "full.img")
	overlay.Size = 16 * vm.MiB
	full.Format, full.Sparse = "raw", false

	must(t, h.CreateVolume(ctx, base, nil))
	must(t, h.CreateVolume(ctx, overlay, &base))
	must(t, h.CreateVolume(ctx, full, nil))
	mustSay(t, h.CreateVolume(ctx, full, nil), "creating volume full.img of 8MiB in storage pool "+pool, "exists already")

	info, err := exec.Command("qemu-img", "info", overlay.Path).Output()
	must(t, err)
	for _, want := range []string{"16 MiB (16777216 bytes)", "backing file: " + base.Path, "backing file format: qcow2"} {
		if !strings.Contains(string(info), want) {
			t.Errorf("the overlay is not %q:\n%s", want, info)
		}
	}
	usage, err := exec.Command("du", "-B1M", full.Path).Output()
	must(t, err)
	if !strings.HasPrefix(string(usage), "8\t") {
		t.Errorf("a volume of 8MiB that is not sparse takes (MiB) %s", usage)
	}
	for _, v := range []vm.Volume{base, overlay, full} {
		if file, err := os.Stat(v.Path); err != nil || file.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", v.Name, file.Mode(), err)
		}
		for range 2 {
			must(t, h.RemoveVolume(ctx, v))
			mustExist(t, v.Path, false)
		}
	}
}

func TestRemoveVolumeThatLibvirtDoesNotKnow(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	for name, prepare := range map[string]func(v *vm.Volume){
		"a file that was put there": func(v *vm.Volume) { must(t, os.WriteFile(v.Path, nil, 0o600)) },
		"of no pool": func(v *vm.Volume) {
			v.Pool = "hyp-no-pool"
			must(t, os.WriteFile(v.Path, nil, 0o600))
		},
		"of a stopped pool": func(v *vm.Volume) {
			must(t, h.CreateVolume(t.Context(), *v, nil))
			virsh(t, "pool-destroy", pool)
		},
		"whose file is gone": func(v *vm.Volume) {
			must(t, h.CreateVolume(t.Context(), *v, nil))
			must(t, os.Remove(v.Path))
		},
		"of no pool, whose directory is gone": func(v *vm.Volume) {
			v.Pool, v.Path = "hyp-no-pool", filepath.Join(dir, "gone", v.Name)
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, h.EnsureDirectoryPool(t.Context(), pool, dir))
			v := volumeIn(pool, dir, strings.ReplaceAll(name, " ", "-"))
			prepare(&v)
			for range 2 {
				if err := h.RemoveVolume(t.Context(), v); err != nil {
					t.Error(err)
				}
				mustExist(t, v.Path, false)
			}
		})
	}
}

// A volume that cannot be seen is not one that is not there.
func TestVolumeOfAPoolWhoseDirectoryIsAwayIsNotRemoved(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	v := volumeIn(pool, dir, "away.qcow2")
	must(t, h.CreateVolume(t.Context(), v, nil))
	virsh(t, "pool-destroy", pool)
	must(t, os.Rename(dir, dir+"-away"))
	mustSay(t, h.RemoveVolume(t.Context(), v), v.Name, pool, dir, "mounted")
	must(t, os.Rename(dir+"-away", dir))
	must(t, h.RemoveVolume(t.Context(), v))
	mustExist(t, v.Path, false)
}

func TestRefreshPoolListsWhatOthersHaveChanged(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	was, is := volumeIn(pool, dir, "was.qcow2"), volumeIn(pool, dir, "is.qcow2")
	must(t, h.CreateVolume(t.Context(), was, nil))
	must(t, os.Rename(was.Path, is.Path))
	h.RefreshPool(t.Context(), pool)
	mustList(t, pool, is.Name)
	if volumes := virsh(t, "vol-list", pool); strings.Contains(volumes, was.Name) {
		t.Errorf("libvirt lists\n%s, want %s alone", volumes, is.Name)
	}
	h.RefreshPool(t.Context(), "no such pool") // is nobody's loss
}

func TestRefreshPoolOutlastsLibvirtsOwnWorkInThePool(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	was, is := volumeIn(pool, dir, "was.qcow2"), volumeIn(pool, dir, "is.qcow2")
	must(t, h.CreateVolume(t.Context(), was, nil))
	large := make([]byte, 256*vm.MiB)
	_, _ = rand.Read(large) // libvirt is quick with zeros
	must(t, os.WriteFile(filepath.Join(dir, "large"), large, 0o600))
	virsh(t, "pool-refresh", pool)
	clone := exec.Command("virsh", "vol-clone", "--pool", pool, "large", "copy")
	must(t, clone.Start())
	defer func() { must(t, clone.Wait()) }()
	eventually(t, 10*time.Second, "libvirt declines to refresh the pool", func() bool {
		out, _ := exec.Command("virsh", "pool-refresh", pool).CombinedOutput()
		return strings.Contains(string(out), "asynchronous jobs running")
	})
	must(t, os.Rename(was.Path, is.Path))
	h.RefreshPool(t.Context(), pool)
	mustList(t, pool, is.Name)
}
