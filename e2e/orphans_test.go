//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Nomad's client loses its state, and two jobs are stopped while it is away: one
// in the middle of an import, and one whose guest runs.
func TestVMsThatBelongToNoTaskAreRemoved(t *testing.T) {
	configure(t, "plugin \"nomad-driver-virt\" {\n  config {", `remove_orphans_after = "1m"`)
	slow := bigImage(t)
	lost := guest{Name: "lost", Task: "lost", Cmds: serveShell}.submit(t)
	s := lost.waitRunning().shell(t)
	s.run("echo the guest was here | dd of=/dev/vda bs=512 seek=1 conv=sync,fsync")
	cut := guest{Name: "cut", Task: "cut", Image: slow, KillTimeout: "1s"}.submit(t)
	holdImport(t)

	command(t, lab, "nomad-stop")
	killPlugin(t)
	for _, j := range []*job{lost, cut} {
		command(t, "nomad", "job", "stop", "-address", "http://10.99.0.2:4656", "-purge", "-detach", j.name) // the server
	}
	if err := os.Remove("/run/lab/nomad/client/client/state.db"); err != nil {
		t.Fatal(err)
	}
	command(t, lab, "nomad-start")
	stays := guest{Name: "stays", Task: "stays", KillTimeout: "1s"}.submit(t)
	stays.waitRunning() // and the plugin knows its node by that

	eventually(t, time.Minute+endTimeout, "the end of VMs that belong to no task", func() error {
		if domains := without(virsh(t, "list", "--all", "--name"), "stays-"); strings.TrimSpace(domains) != "" {
			return errors.New(domains)
		}
		return nil
	})
	disk := strings.TrimSpace(matching(listed(t, poolDir)+"\n", "kept-until-"))
	if strings.Contains(disk, "\n") || !strings.Contains(disk, "+lost-") {
		t.Fatalf("want the disk to be kept of the VM whose guest ran, found %q", disk)
	}
	raw := filepath.Join(t.TempDir(), "disk.raw")
	command(t, "qemu-img", "convert", "-O", "raw", disk, raw)
	if content := command(t, "dd", "if="+raw, "bs=512", "skip=1", "count=1"); !strings.HasPrefix(content, "the guest was here") {
		t.Errorf("the disk that was kept holds %q", content)
	}
	stays.purge()
	nothingLeft(t, "kept-until-")
	removeKept(t, disk)
}

// removeKept removes a disk that was kept in the pool local, and has libvirt know.
func removeKept(t *testing.T, disk string) {
	t.Helper()
	if err := os.Remove(disk); err != nil {
		t.Fatal(err)
	}
	eventually(t, endTimeout, "libvirt forgets the disk", func() error {
		if _, err := try("virsh", "-q", "pool-refresh", "local"); err != nil {
			return err
		}
		if found := kept(t, "local"); found != "" {
			return fmt.Errorf("there is %s", found)
		}
		return nil
	})
}

// libvirt comes to know nothing of a VM while no plugin is there, as after a
// downgrade: its task is started anew, and told where the disks before are.
func TestDisksOfAVMThatLibvirtHasLostAreKept(t *testing.T) {
	j := guest{Name: "lost-by-libvirt", Image: "none", KillTimeout: "1s"}.submit(t)
	j.waitRunning()
	name := vmOf(t, "vm-task")
	command(t, lab, "nomad-stop")
	t.Cleanup(func() { command(t, lab, "nomad-start") }) // does nothing when it runs
	virsh(t, "undefine", name)
	virsh(t, "destroy", name)
	command(t, lab, "nomad-start")
	j.waitEvent(startTimeout, "unknown to libvirt", name)
	j.waitRunning()
	disk := strings.TrimSpace(matching(listed(t, poolDir)+"\n", name))
	if strings.Contains(disk, "\n") || !strings.Contains(disk, "/kept-until-") || !strings.Contains(disk, "+"+name+"-vda") {
		t.Fatalf("want its disk to be kept, and nothing else of it, found %q", disk)
	}
	j.purge()
	nothingLeft(t, "kept-until-")
	removeKept(t, disk)
}
