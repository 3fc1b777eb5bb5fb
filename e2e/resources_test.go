//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestResourcesAreWhatTheJobSays(t *testing.T) {
	j := guest{
		Name:   "resources",
		Cmds:   serveShell,
		Config: "vcpus = 2",
	}
	hcl := strings.Replace(j.hcl(t), "cpu    = 1200", "cpu = 300\nmemory_max = 512", 1)
	submitted := submit(t, j.Name, hcl)
	a := submitted.waitRunning()
	s := a.shell(t)
	name := vmOf(t, "vm-task")
	if got := s.run("nproc"); got != "2" {
		t.Errorf("the guest has %s CPUs, want 2", got)
	}
	want := "300"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		want = "12" // as a weight
	}
	if shares := strings.Fields(matching(virsh(t, "schedinfo", name), "cpu_shares")); shares[len(shares)-1] != want {
		t.Errorf("the VM's CPU shares are %v, want %s", shares, want)
	}
	balloon := func() int {
		t.Helper()
		for line := range strings.Lines(virsh(t, "dommemstat", name)) {
			if kib, is := strings.CutPrefix(strings.TrimSpace(line), "actual "); is {
				n, err := strconv.Atoi(kib)
				if err != nil {
					t.Fatal(err)
				}
				return n / 1024
			}
		}
		t.Fatal("the VM has no balloon")
		return 0
	}
	eventually(t, endTimeout, "a guest of 256 MiB", func() error {
		if got := balloon(); got != 256 {
			return fmt.Errorf("it has %d MiB", got)
		}
		return nil
	})
	// It takes more when it needs more.
	s.run("mount -o remount,size=400m /run && dd if=/dev/zero of=/run/fill bs=1M count=300 2>/dev/null")
	if got := balloon(); got < 300 || got > 512 {
		t.Errorf("with 300 MiB of files in its memory the guest has %d MiB, want more than those, and no more than 512", got)
	}
	submitted.purge()
	nothingLeft(t)
}
