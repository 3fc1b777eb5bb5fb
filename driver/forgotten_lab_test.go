//go:build lab

package driver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// filesOf lists what is in a directory and has a part in its name.
func filesOf(t *testing.T, dir, part string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), part) {
			names = append(names, e.Name())
		}
	}
	return names
}

func mustKnow(t *testing.T, bare *libvirt.Libvirt, domain string, want bool) {
	t.Helper()
	if _, err := bare.DomainLookupByName(domain); (err == nil) != want {
		t.Errorf("libvirt knows domain %s: %v, want it to: %t", domain, err, want)
	}
}

// Nomad or the plugin dies after the guest has run, and before the VM is known or
// all of it is removed: the next start of the task finds it.
func TestDiskOfAForgottenVMIsKeptAsItIsToBe(t *testing.T) {
	dir, bare := t.TempDir(), bareLibvirt(t)
	pools := map[string]DirectoryPool{"forgotten": {Path: dir}}
	disk := Disk{Size: "8MiB", Keep: "1h"}
	first, second := labTask(t, 1, disk, nil), labTask(t, 2, disk, nil)

	if _, _, err := labDriver(t, pools).StartTask(first); err != nil {
		t.Fatal(err)
	}
	forgotten, name := vmName(first.Name, first.ID), vmName(second.Name, second.ID)
	mustKnow(t, bare, forgotten, true)
	suspend(t, bare, forgotten)

	next := labDriver(t, pools)
	if _, _, err := next.StartTask(second); err != nil {
		t.Fatal(err)
	}
	mustKnow(t, bare, forgotten, false)
	mustKnow(t, bare, name, true)
	if found := filesOf(t, dir, forgotten); len(found) != 1 || !strings.HasPrefix(found[0], "kept-until-") {
		t.Errorf("of the VM that was forgotten there is %q, want its disk to be kept", found)
	}
	if err := next.DestroyTask(second.ID, true); err != nil {
		t.Fatal(err)
	}
	if found := filesOf(t, dir, ""); len(found) != 2 {
		t.Errorf("there is %q, want both disks to be kept", found)
	}
}

// Nomad has lost a task, or stopped it when no driver was there.
func TestVMThatBelongsToNoTaskIsRemovedAndItsDisksAreKept(t *testing.T) {
	dir, bare := t.TempDir(), bareLibvirt(t)
	pools := map[string]DirectoryPool{"orphans": {Path: dir}}
	lost, cut, foreign, other := labTask(t, 1, Disk{Size: "8MiB"}, nil), labTask(t, 2, Disk{Size: "8MiB"}, nil),
		labTask(t, 3, Disk{Size: "8MiB"}, nil), labTask(t, 4, Disk{Size: "8MiB"}, nil)
	cut.AllocID, foreign.AllocID, foreign.NodeID, other.AllocID = "cut", "foreign", "another-node", "other"
	first := labDriver(t, pools)
	for _, cfg := range []*drivers.TaskConfig{lost, cut, foreign} {
		if _, _, err := first.StartTask(cfg); err != nil {
			t.Fatal(err)
		}
		domain, err := bare.DomainLookupByName(vmName(cfg.Name, cfg.ID))
		if err == nil {
			err = bare.DomainDestroy(domain) // its firmware knows of no power button
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// A start that was cut off before the guest ran has no seed yet.
	if err := os.Remove(filepath.Join(dir, vmName(cut.Name, cut.ID)+seedSuffix)); err != nil {
		t.Fatal(err)
	}

	next := labDriver(t, pools)
	next.orphansAfter = 2 * time.Second
	defer next.used()() // as Nomad does
	if _, _, err := next.StartTask(other); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left := append(filesOf(t, dir, vmName(cut.Name, cut.ID)), filesOf(t, dir, vmName(lost.Name, lost.ID)+seedSuffix)...)
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is left after 30 s", left)
		}
	}
	if found := filesOf(t, dir, vmName(lost.Name, lost.ID)); len(found) != 1 || !strings.HasPrefix(found[0], "kept-until-") {
		t.Errorf("of the VM that belongs to no task there is %q, want its disk to be kept", found)
	}
	mustKnow(t, bare, vmName(foreign.Name, foreign.ID), true)
	mustKnow(t, bare, vmName(other.Name, other.ID), true)
	if err := errors.Join(first.DestroyTask(foreign.ID, true), next.DestroyTask(other.ID, true)); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []*drivers.TaskConfig{lost, cut, foreign, other} {
		mustKnow(t, bare, vmName(cfg.Name, cfg.ID), false)
	}
}

// Nobody sees how the VM ends, and libvirt knows nothing of it afterwards.
func TestDisksOfAVMThatLibvirtHasLostAreKept(t *testing.T) {
	dir, bare := t.TempDir(), bareLibvirt(t)
	pools := map[string]DirectoryPool{"lost": {Path: dir}}
	cfg := labTask(t, 1, Disk{Size: "8MiB", Keep: "1h"}, nil)
	handle, _, err := labDriver(t, pools).StartTask(cfg)
	if err != nil {
		t.Fatal(err)
	}
	name := vmName(cfg.Name, cfg.ID)
	undefine(t, bare, name)
	domain, err := bare.DomainLookupByName(name)
	if err == nil {
		err = bare.DomainDestroy(domain)
	}
	if err != nil {
		t.Fatal(err)
	}

	if err := labDriver(t, pools).RecoverTask(handle); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("the error is %v, want it to say that the VM is gone", err)
	}
	found := filesOf(t, dir, name)
	if len(found) != 1 || !strings.HasPrefix(found[0], "kept-until-") || strings.HasSuffix(found[0], seedSuffix) {
		t.Errorf("of the VM there is %q, want its disk to be kept", found)
	}
}

func undefine(t *testing.T, bare *libvirt.Libvirt, name string) {
	t.Helper()
	domain, err := bare.DomainLookupByName(name)
	if err == nil {
		err = bare.DomainUndefine(domain)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// suspend has a guest not be asked to shut down, which its firmware would not hear.
func suspend(t *testing.T, bare *libvirt.Libvirt, name string) {
	t.Helper()
	domain, err := bare.DomainLookupByName(name)
	if err == nil {
		err = bare.DomainSuspend(domain)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A domain that somebody undefines while it runs is gone with its QEMU.
func TestVMThatIsUndefinedWhileItRuns(t *testing.T) {
	dir, bare := t.TempDir(), bareLibvirt(t)
	pools := map[string]DirectoryPool{"undefined": {Path: dir}}
	first, second := labTask(t, 1, Disk{Size: "8MiB"}, nil), labTask(t, 2, Disk{Size: "8MiB"}, nil)
	if _, _, err := labDriver(t, pools).StartTask(first); err != nil {
		t.Fatal(err)
	}
	undefine(t, bare, vmName(first.Name, first.ID))
	suspend(t, bare, vmName(first.Name, first.ID))

	// The next plugin knows no more of it than what libvirt tells.
	next := labDriver(t, pools)
	if _, _, err := next.StartTask(second); err != nil {
		t.Fatalf("the next start of the task: %v", err)
	}
	undefine(t, bare, vmName(second.Name, second.ID))
	if err := next.DestroyTask(second.ID, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{vmName(first.Name, first.ID), vmName(second.Name, second.ID)} {
		mustKnow(t, bare, name, false)
	}
	if found := filesOf(t, dir, ""); len(found) != 0 {
		t.Errorf("%q is left", found)
	}
}
