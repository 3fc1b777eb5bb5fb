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

// configure changes Nomad's client configuration until the test ends: a line is
// put behind another.
func configure(t *testing.T, behind, line string) {
	t.Helper()
	const file = "/run/lab/agent.hcl"
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set := func(config string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, lab, "nomad-restart")
	}
	t.Cleanup(func() { set(string(before)) })
	set(strings.Replace(string(before), behind+"\n", behind+"\n"+line+"\n", 1))
}

// kept lists the volumes of a pool that were kept for a look at them.
func kept(t *testing.T, pool string) string {
	t.Helper()
	return matching(virsh(t, "vol-list", pool)+"\n", "kept-until-")
}

func TestWhatIsKeptGoesWhenItsTimeIsOver(t *testing.T) {
	const keep = 15 * time.Second
	configure(t, "storage_pools {", `keep_unused_bases = "`+keep.String()+`"`)
	dataImage(t, "e2e-used.img", 8*mib)
	dataImage(t, "e2e-unused.img", 8*mib)
	_, digest := dataImage(t, "e2e-kept.img", 8*mib)

	short := guest{Name: "short", Task: "short", Image: "e2e-unused.img", KillTimeout: "1s"}.submit(t)
	short.waitRunning()
	long := guest{Name: "long", Task: "long", Image: "e2e-used.img", KillTimeout: "1s"}.submit(t)
	long.waitRunning()
	baseOf := func(task string) string {
		t.Helper()
		info := command(t, "qemu-img", "info", "-U", disksOf(t, vmOf(t, task))["vda"].Source.File)
		_, base, _ := strings.Cut(matching(info+"\n", "backing file: "), "backing file: ")
		return strings.Fields(base)[0]
	}
	unused, used := baseOf("short"), baseOf("long")
	short.purge()

	looked := guest{
		Name: "looked-at", Task: "looked-at", KillTimeout: "1s",
		Disk:   "primary = true\nformat = \"raw\"\nkeep = \"" + keep.String() + "\"\n" + fromImage("e2e-kept.img"),
		Config: disk(`size = "9MiB"`) + disk(`size = "10MiB"`, `pool = "small"`, `keep = "`+keep.String()+`"`),
	}.submit(t)
	looked.waitRunning()
	if kept(t, "local")+kept(t, "small") != "" {
		t.Error("there are kept volumes while their task runs")
	}
	ended := time.Now()
	looked.purge()
	for pool, count := range map[string]int{"local": 1, "small": 1} {
		eventually(t, endTimeout, "a kept volume in pool "+pool, func() error {
			found := kept(t, pool)
			if strings.Count(found, "\n") != count || !strings.Contains(found, "looked-at-") {
				return fmt.Errorf("the volumes are\n%s", virsh(t, "vol-list", pool))
			}
			return nil
		})
	}
	name := strings.Fields(kept(t, "local"))[0]
	told, _, _ := strings.Cut(strings.TrimPrefix(name, "kept-until-"), "+")
	until, err := time.Parse("20060102T150405Z", told)
	if err != nil || until.Before(ended.Add(keep-time.Second)) || until.After(time.Now().Add(keep+time.Second)) {
		t.Errorf("volume %s was made to be kept for %s after %s (error %v)", name, keep, ended.UTC(), err)
	}
	if digestOfFile(t, filepath.Join(poolDir, name)) != digest {
		t.Errorf("volume %s is not what the disk was", name)
	}
	for pool, dir := range map[string]string{"local": poolDir, "small": smallDir} {
		left := virsh(t, "vol-list", pool) + "\n" + listed(t, dir)
		if left := strings.TrimSpace(without(left, "kept-until-", "base-", "long-")); left != "" {
			t.Errorf("the disk that was not to be kept is left: %s", left)
		}
	}

	// What has to go is looked for once a minute.
	gone := func(path string) func() error {
		return func() error {
			switch _, err := os.Stat(path); {
			case err == nil:
				return fmt.Errorf("%s is there", path)
			case !errors.Is(err, os.ErrNotExist):
				return err
			}
			return nil
		}
	}
	eventually(t, 3*time.Minute, "the end of the kept disk", gone(filepath.Join(poolDir, name)))
	if time.Now().Before(until) {
		t.Error("the kept disk went before its time was over")
	}
	eventually(t, 3*time.Minute, "the end of the unused base", gone(unused))
	if _, err := os.Stat(used); err != nil {
		t.Errorf("the base in use: %v", err)
	}
	// The other pool's may have a second more, and then goes with the next look.
	eventually(t, 3*time.Minute, "nothing kept in what virsh vol-list shows", func() error {
		if found := kept(t, "local") + kept(t, "small"); found != "" {
			return errors.New(found)
		}
		return nil
	})
	long.purge()
	nothingLeft(t)
}

func TestDisksGoWithTheTaskWhateverBecameOfTheDomain(t *testing.T) {
	disks := disk(`size = "8MiB"`) + disk(`size = "9MiB"`, `pool = "small"`)
	for name, happen := range map[string]func(vm string){
		"destroyed": func(vm string) { virsh(t, "destroy", vm) },
		"undefined": func(vm string) { virsh(t, "undefine", vm) },
		"undefined and destroyed": func(vm string) {
			virsh(t, "undefine", vm)
			virsh(t, "destroy", vm)
		},
		"host rebooted": func(vm string) {
			command(t, lab, "nomad-stop")
			virsh(t, "destroy", vm)
			command(t, lab, "libvirt-stop")
			command(t, lab, "libvirt-start")
			command(t, lab, "nomad-start")
		},
		"plugin killed": func(string) { killPlugin(t) },
	} {
		t.Run(name, func(t *testing.T) {
			j := guest{
				Name: "gone-" + strings.ReplaceAll(name, " ", "-"), KillTimeout: "1s",
				Disk: "primary = true\n" + `size = "7MiB"`, Config: disks,
			}.submit(t)
			j.waitRunning()
			happen(vmOf(t, "vm-task"))
			j.purge()
			nothingLeft(t)
		})
	}
}

// driverTells waits until the node tells all words of the driver's health.
func driverTells(t *testing.T, healthy bool, words ...string) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("a driver that is healthy: %t", healthy), func() error {
		// virt  true  false  the reason  the time
		told := matching(command(t, "nomad", "node", "status", "-self", "-verbose")+"\n", "virt ")
		fields := strings.Fields(told)
		if len(fields) < 3 || fields[2] != fmt.Sprint(healthy) {
			return errors.New(told)
		}
		for _, word := range words {
			if !strings.Contains(told, word) {
				return fmt.Errorf("%q is not in %s", word, told)
			}
		}
		return nil
	})
}

// restartLibvirt does so, and waits until Nomad's server has heard of both: a job
// that it looks at in between is looked at again when something else changes.
func restartLibvirt(t *testing.T) {
	t.Helper()
	command(t, lab, "libvirt-stop")
	t.Cleanup(func() { command(t, lab, "libvirt-start") }) // does nothing when it runs
	driverTells(t, false, "libvirt")
	command(t, lab, "libvirt-start")
	driverTells(t, true)
}

func TestPoolThatCannotBeUsedMakesTheDriverUnhealthy(t *testing.T) {
	const pool, here, there = "e2e-elsewhere", "/var/lib/virt/e2e-here", "/var/lib/virt/e2e-there"
	virsh(t, "pool-define-as", pool, "dir", "--target", there)
	t.Cleanup(func() {
		_, _ = try("virsh", "-q", "pool-destroy", pool)
		_, _ = try("virsh", "-q", "pool-undefine", pool)
		os.RemoveAll(here)
	})
	configure(t, "storage_pools {", fmt.Sprintf("directory %q {\npath = %q\n}", pool, here))
	driverTells(t, false, pool, here, there)

	virsh(t, "pool-undefine", pool)
	driverTells(t, true)
	if info := virsh(t, "pool-info", pool); !strings.Contains(info, "running") {
		t.Errorf("the pool was not made:\n%s", info)
	}

	// What was in it is not to be taken for gone.
	virsh(t, "pool-destroy", pool)
	if err := os.Rename(here, here+"-away"); err != nil {
		t.Fatal(err)
	}
	driverTells(t, false, pool, here, "mount")
	if err := os.Rename(here+"-away", here); err != nil {
		t.Fatal(err)
	}
	driverTells(t, true)
}
