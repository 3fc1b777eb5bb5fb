//go:build lab

package hypervisor

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"nomad-driver-virt/cloudinit"
	"nomad-driver-virt/vm"
)

// seen follows a domain to its end, and tells what its guest does each time
// that changes.
func seen(t *testing.T, h *Host, name string) (guests <-chan Guest, ended <-chan end) {
	t.Helper()
	changes, last := make(chan Guest, 100), Guest(-1)
	over := make(chan end, 1)
	ctx := t.Context()
	go func() {
		exit, err := h.WaitEnd(ctx, name, func(_ context.Context, g Guest) time.Duration {
			if g != last {
				changes <- g
			}
			last = g
			return 0
		})
		over <- end{exit, err, time.Now()}
	}()
	return changes, over
}

// mustBecome waits until a guest does what is wanted.
func mustBecome(t *testing.T, guests <-chan Guest, want Guest, limit time.Duration) {
	t.Helper()
	for timeout := time.After(limit); ; {
		select {
		case got := <-guests:
			if got == want {
				return
			}
		case <-timeout:
			t.Fatalf("the guest's state is not %d within %s", want, limit)
		}
	}
}

func mustFail(t *testing.T, h *Host, name string, want DiskError) {
	t.Helper()
	got, err := h.DiskError(t.Context(), name)
	if err != nil || got != want {
		t.Errorf("the disk error is %+v, %v, want %+v", got, err, want)
	}
}

// smallDisk makes a disk whose pool, a file system of its own, can hold half of
// it, until it is grown.
func smallDisk(t *testing.T, h *Host, device string, size vm.Bytes) (disk vm.Disk, grow func()) {
	t.Helper()
	dir, pool := t.TempDir(), "hyp-small-"+device
	mount := func(flags uintptr, size vm.Bytes) {
		t.Helper()
		must(t, syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("mode=0711,size=%d", uint64(size))))
	}
	mount(0, size/2)
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	must(t, h.EnsureDirectoryPool(t.Context(), pool, dir))
	t.Cleanup(func() {
		virsh(t, "pool-destroy", pool)
		virsh(t, "pool-undefine", pool)
	})
	v := volumeIn(pool, dir, "small.img")
	v.Format, v.Size = "raw", size
	must(t, h.CreateVolume(t.Context(), v, nil))
	return vm.Disk{Volume: v, Device: device, Bus: "virtio"}, func() { mount(syscall.MS_REMOUNT, 2*size) }
}

// boots is how long a guest that boots may take for anything: the machine may
// have others to emulate.
const boots = 2 * time.Minute

// tiny has a VM boot the tiny guest, which runs commands.
func tiny(t *testing.T, s *vm.Spec, cmds ...string) {
	t.Helper()
	image, err := os.ReadFile("/var/lib/virt/images/tiny.qcow2")
	must(t, err)
	must(t, os.WriteFile(s.Disks[0].Volume.Path, image, 0))
	documents, err := cloudinit.Documents(vm.Seed{InstanceID: s.Name, Hostname: s.Name, Cmds: cmds})
	must(t, err)
	seed, err := cloudinit.ISO(filepath.Join(t.TempDir(), "seed"), documents)
	must(t, err)
	must(t, os.WriteFile(s.SeedVolume.Path, seed, 0))
	s.Memory = 256 * vm.MiB
	s.Interfaces = nil // nobody waits for an address
}

// restartLibvirt returns when libvirt is known to have been away, and back.
func restartLibvirt(t *testing.T, h *Host) {
	t.Helper()
	t.Cleanup(func() { lab(t, "libvirt-start") })
	lab(t, "libvirt-stop")
	eventually(t, 5*time.Second, "the loss is noticed", func() bool { return h.Health(t.Context()) != nil })
	lab(t, "libvirt-start")
	eventually(t, 4*reconnectEvery, "libvirt answers again", func() bool { return h.Health(t.Context()) == nil })
}

func mustBeWhole(t *testing.T, path string, size vm.Bytes) {
	t.Helper()
	got, err := os.ReadFile(path)
	must(t, err)
	want := bytes.Repeat([]byte("nomad\n"), int(size)/6+1)[:size]
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%s of %d bytes is not as it was written, from byte %d of %d", path, len(got), at, size)
}

func TestGuestWhosePoolIsFullIsHaltedAndLosesNothing(t *testing.T) {
	const size = 32 * vm.MiB
	h := connected(t, system)
	s := machine(t, h, "hyp-full")
	first, growFirst := smallDisk(t, h, "vdb", size)
	second, growSecond := smallDisk(t, h, "vdc", size)
	s.Disks = append(s.Disks, first, second)
	write := fmt.Sprintf("yes nomad | head -c %d >", size)
	tiny(t, s, write+"/dev/vdb", write+"/dev/vdc", "sync", "poweroff")
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), s.Name))
	guests, ended := seen(t, h, s.Name)
	mustBecome(t, guests, GuestOther, 5*time.Second)
	must(t, h.Resume(t.Context(), s.Name))
	mustBecome(t, guests, GuestRuns, 5*time.Second)
	mustFail(t, h, s.Name, DiskError{})

	mustBecome(t, guests, GuestHalted, boots)
	mustFail(t, h, s.Name, DiskError{Path: first.Volume.Path, Full: true})
	journal, err := h.Journal(t.Context(), s.Name)
	if err != nil || journal.Disks["vdb"].Path != first.Volume.Path {
		t.Errorf("the journal tells of vdb %+v, %v, want it at %s", journal.Disks["vdb"], err, first.Volume.Path)
	}

	must(t, h.Resume(t.Context(), s.Name)) // without room
	eventually(t, 5*time.Second, "it is halted again", func() bool { return isHalted(t, h, s.Name) })
	mustFail(t, h, s.Name, DiskError{Path: first.Volume.Path, Full: true})

	restartLibvirt(t, h)
	if !isHalted(t, h, s.Name) {
		t.Error("after a restart of libvirt the guest is not known to be halted")
	}
	mustFail(t, h, s.Name, DiskError{Disk: "vdb", Full: true})

	growFirst()
	must(t, h.Resume(t.Context(), s.Name))
	eventually(t, boots, "the other disk is what halts it", func() bool {
		failed, err := h.DiskError(t.Context(), s.Name)
		must(t, err)
		return failed == DiskError{Path: second.Volume.Path, Full: true} && isHalted(t, h, s.Name)
	})

	growSecond()
	must(t, h.Resume(t.Context(), s.Name))
	select {
	case e := <-ended:
		if e.err != nil || e.exit.Err != nil || e.exit.Code != 0 {
			t.Errorf("it ended by %+v, %v, want that the guest powers off", e.exit, e.err)
		}
	case <-time.After(boots):
		t.Fatalf("the guest has not gone on to its end within %s", boots)
	}
	mustBeWhole(t, first.Volume.Path, size)
	mustBeWhole(t, second.Volume.Path, size)
}

func isHalted(t *testing.T, h *Host, name string) bool {
	t.Helper()
	s, err := h.state(t.Context(), name)
	must(t, err)
	return s.guest() == GuestHalted
}

// readsOn is a boot sector that reads sector 128 of its disk, and stays there.
var readsOn = []byte{
	0x31, 0xc0, // xor ax, ax
	0x8e, 0xd8, // mov ds, ax
	0xbe, 0x0d, 0x7c, // mov si, 0x7c0d: what is to be read
	0xb4, 0x42, // mov ah, 0x42: extended read
	0xcd, 0x13, // int 0x13
	0xeb, 0xfe, // stay here
	0x10, 0, 1, 0, 0, 0x80, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, // one sector, to 0x8000
}

// spoiled writes a disk that boots, and reads what cannot be read: of a qcow2
// file, a cluster whose compressed data is none. mend makes it good.
//
// See "Cluster mapping" in https://www.qemu.org/docs/master/interop/qcow2.html
func spoiled(t *testing.T, path string) (mend func()) {
	t.Helper()
	const cluster = 64 << 10
	content := bytes.Repeat([]byte("nomad"), 2*cluster/5+1)[:2*cluster]
	copy(content, readsOn)
	content[510], content[511] = 0x55, 0xaa
	raw := filepath.Join(t.TempDir(), "raw")
	must(t, os.WriteFile(raw, content, 0o600))
	must(t, os.Truncate(raw, int64(8*vm.MiB))) // firmware boots no disk without a whole cylinder
	compressed := filepath.Join(t.TempDir(), "compressed")
	out, err := exec.Command("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, compressed).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
	good, err := os.ReadFile(compressed)
	must(t, err)
	number := func(at uint64) uint64 { return binary.BigEndian.Uint64(good[at:]) }
	const l1 = 40 // where the header tells of the L1 table
	l2 := number(number(l1)) & (1<<56 - 1)
	data := number(l2+8) & (1<<54 - 1)
	bad := bytes.Clone(good)
	for i := range uint64(16) {
		bad[data+i] = 0xff
	}
	must(t, os.WriteFile(path, bad, 0))
	return func() { must(t, os.WriteFile(path, good, 0)) }
}

func TestGuestWhoseDiskHasAnErrorIsHalted(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-error")
	s.Interfaces = nil // its firmware would look there first
	mend := spoiled(t, s.Disks[0].Volume.Path)
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), s.Name))
	guests, _ := seen(t, h, s.Name)
	must(t, h.Resume(t.Context(), s.Name))
	mustBecome(t, guests, GuestHalted, 20*time.Second)
	mustFail(t, h, s.Name, DiskError{Path: s.Disks[0].Volume.Path})
	restartLibvirt(t, h)
	mustFail(t, h, s.Name, DiskError{Disk: "vda"})

	mend()
	must(t, h.Resume(t.Context(), s.Name))
	mustBecome(t, guests, GuestRuns, 5*time.Second)
}

func TestGuestThatSomebodyPausesIsNotHalted(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-paused")
	guests, _ := seen(t, h, s.Name)
	mustBecome(t, guests, GuestRuns, 5*time.Second)
	virsh(t, "suspend", s.Name)
	select {
	case got := <-guests:
		if got != GuestOther {
			t.Errorf("the guest's state is %d after virsh suspend, want %d", got, GuestOther)
		}
	case <-time.After(5 * time.Second):
		t.Error("virsh suspend is not noticed within 5 s")
	}
	virsh(t, "resume", s.Name)
	mustBecome(t, guests, GuestRuns, 5*time.Second)
}
