//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// daemon sends signals to the lab's daemons.
const daemon = "../lab/lib/daemon.sh"

// qemuOf is the process of a VM's QEMU.
func qemuOf(t *testing.T, vm string) string {
	t.Helper()
	return command(t, "pgrep", "-f", "qemu-system.*-name guest="+vm+",")
}

// waitExit waits until a batch job's task is over, and wants its events to tell how.
func (j *job) waitExit(words ...string) {
	j.t.Helper()
	if a := j.waitDead(2 * tinyTimeout); !a.tells(words...) {
		j.t.Errorf("the events of %s do not say %q:\n%s", j.name, words, a.events())
	}
	j.purge()
}

func (j *job) waitDead(within time.Duration) allocation {
	j.t.Helper()
	return j.waitFor(within, "the end of its task", func(a allocation) error {
		if s := a.TaskStates["vm-task"].State; s != "dead" {
			return fmt.Errorf("the task is %s", s)
		}
		return nil
	})
}

func TestEndsOfVMsAreExplained(t *testing.T) {
	for name, test := range map[string]struct {
		end    func(vm string)
		words  []string
		config string
	}{
		"destroyed": {func(vm string) { virsh(t, "destroy", vm) }, []string{"Exit Code: 137", "destroyed by another hand"}, ""},
		"killed":    {func(vm string) { command(t, "kill", "-KILL", qemuOf(t, vm)) }, []string{"Exit Code: 1", "QEMU crashed or was killed, without a word"}, ""},
		"aborted":   {func(vm string) { command(t, "kill", "-ABRT", qemuOf(t, vm)) }, []string{"Exit Code: 1", "QEMU crashed or was killed"}, ""},
		"ended":     {func(vm string) { command(t, "kill", "-TERM", qemuOf(t, vm)) }, []string{"Exit Code: 1", "ended by a signal of the host's"}, ""},
		"saved":     {func(vm string) { virsh(t, "managedsave", vm) }, []string{"Exit Code: 1", "saved and stopped by another hand"}, `mounts = "9p"`},
	} {
		t.Run(name, func(t *testing.T) {
			j := guest{Name: name, Type: "batch", Image: "none", Config: test.config, KillTimeout: "1s"}.submit(t)
			j.waitRunning()
			test.end(vmOf(t, "vm-task"))
			j.waitExit(test.words...)
			nothingLeft(t)
		})
	}
}

func TestPanicOfTheGuestIsTold(t *testing.T) {
	j := guest{Name: "panic", Type: "batch", Cmds: []string{"echo c > /proc/sysrq-trigger"}, KillTimeout: "1s"}.submit(t)
	j.waitRunning()
	eventually(t, tinyTimeout, "an exit, and a log to the last word", func() error {
		a, err := j.newest()
		if err != nil {
			return err
		}
		if !a.tells("Exit Code: 1", "the guest panicked") {
			return errors.New(a.events())
		}
		if log := a.logs(t); !strings.Contains(log, "Kernel panic - not syncing") {
			return errors.New(log)
		}
		return nil
	})
	// It does not take the host's memory until Nomad collects its garbage.
	if domains := virsh(t, "list", "--name"); strings.Contains(domains, "vm-task") {
		t.Errorf("the VM is there still:\n%s", domains)
	}
	j.purge()
	nothingLeft(t)
}

func TestQEMUKilledForWantOfMemoryIsMarked(t *testing.T) {
	j := guest{Name: "oom", Type: "batch", Cmds: serveShell, KillTimeout: "1s"}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	limitMemory(t, qemuOf(t, vmOf(t, "vm-task")), 8*mib)
	// The kernel has no memory for what the guest has.
	_, _ = s.try("mount -o remount,size=200m /run; dd if=/dev/zero of=/run/fill bs=1M count=120", 6*time.Second)
	if details := command(t, "nomad", "alloc", "status", "-json", j.waitDead(2*tinyTimeout).ID); !strings.Contains(details, `"oom_killed": "true"`) {
		t.Error("the end of the task is not marked as a kill for want of memory")
	}
	j.waitExit("Exit Code: 137", "no memory left for it")
	nothingLeft(t)
}

// limitMemory leaves the control group that libvirt made for a process so much
// memory beyond what it uses.
func limitMemory(t *testing.T, pid string, beyond int64) {
	t.Helper()
	groups, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var dir, usage, limit string
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case parts[1] == "memory":
			dir, usage, limit = "/sys/fs/cgroup/memory"+parts[2], "memory.usage_in_bytes", "memory.limit_in_bytes"
		case parts[1] == "" && dir == "": // version 2; QEMU's threads are in a group below
			dir, usage, limit = "/sys/fs/cgroup"+strings.TrimSuffix(parts[2], "/libvirt/emulator"), "memory.current", "memory.max"
		}
	}
	used, err := os.ReadFile(filepath.Join(dir, usage))
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := strconv.ParseInt(strings.TrimSpace(string(used)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(strconv.FormatInt(bytes+beyond, 10)), 0); err != nil {
		t.Fatal(err)
	}
}

func TestPauseByAnotherHandIsNoExit(t *testing.T) {
	j := guest{Name: "pause", Type: "batch", Image: "none", KillTimeout: "1s"}.submit(t)
	j.waitRunning()
	name := vmOf(t, "vm-task")
	virsh(t, "suspend", name)
	j.waitEvent(endTimeout, "paused by another hand", "virsh resume "+name)
	virsh(t, "resume", name)
	a := j.waitEvent(endTimeout, "The guest goes on")
	if task := a.TaskStates["vm-task"]; task.State != "running" || task.Restarts != 0 {
		t.Errorf("the task is %s after %d restarts, want it to run on", task.State, task.Restarts)
	}
	j.purge()
	nothingLeft(t)
}

func TestStopGoesOnAfterThePluginWasKilled(t *testing.T) {
	j := guest{Name: "interrupted", Image: "none", KillTimeout: "15s"}.submit(t)
	j.waitRunning()
	name := vmOf(t, "vm-task")
	command(t, "nomad", "job", "stop", "-detach", j.name)
	eventually(t, endTimeout, "a VM that is being stopped", func() error {
		_, err := try("virsh", "-q", "metadata", name, "urn:nomad-driver-virt:stop:1")
		return err
	})
	killPlugin(t)
	j.waitDead(endTimeout)
	j.purge()
	nothingLeft(t)
}

func TestVMOutlivesTheTroublesOfAllOthers(t *testing.T) {
	j := guest{Name: "troubles", Type: "batch", Cmds: serveShell}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	boot := s.run("cat /proc/sys/kernel/random/boot_id")
	unharmed := func(after string) {
		t.Helper()
		a := j.waitRunning()
		if now := a.shell(t).run("cat /proc/sys/kernel/random/boot_id"); now != boot || a.TaskStates["vm-task"].Restarts != 0 {
			t.Fatalf("after %s it is another VM:\n%s", after, a.events())
		}
	}
	command(t, lab, "libvirt-stop")
	t.Cleanup(func() { command(t, lab, "libvirt-start") })
	command(t, lab, "nomad-restart")
	driverTells(t, false, "is libvirtd running?")
	unharmed("a restart of the agent while libvirt is away")
	command(t, lab, "libvirt-start")
	driverTells(t, true)

	command(t, daemon, "kill", "libvirtd", "STOP")
	t.Cleanup(func() { _, _ = try(daemon, "kill", "libvirtd", "CONT") })
	driverTells(t, false, "libvirt", "answer")
	unharmed("a libvirt that hangs")
	command(t, daemon, "kill", "libvirtd", "CONT")
	driverTells(t, true)

	killPluginAndWait(t)
	driverTells(t, true)
	unharmed("a plugin that was killed")

	// It ends while nobody looks, and how it ended is told afterwards.
	command(t, lab, "nomad-stop")
	t.Cleanup(func() { command(t, lab, "nomad-start") })
	name := vmOf(t, "vm-task")
	virsh(t, "shutdown", name)
	eventually(t, endTimeout, "a VM that is off", func() error {
		if state := virsh(t, "domstate", name); state != "shut off" {
			return errors.New(state)
		}
		return nil
	})
	command(t, lab, "nomad-start")
	j.waitExit("Exit Code: 0")
	nothingLeft(t)
}

func TestVMThatHangsHoldsUpNoOther(t *testing.T) {
	hung := guest{Name: "hung", Task: "hung", Image: "none", KillTimeout: "3m"}.submit(t)
	hung.waitRunning()
	qemu := qemuOf(t, vmOf(t, "hung"))
	command(t, "kill", "-STOP", qemu)
	t.Cleanup(func() { _, _ = try("kill", "-CONT", qemu) })
	command(t, "nomad", "job", "stop", "-detach", hung.name)

	other := guest{Name: "other", Cmds: serveShell}.submit(t)
	a := other.waitRunning()
	a.shell(t)
	eventually(t, endTimeout, "statistics of the other", func() error {
		u, err := a.usage("vm-task")
		if err == nil && u.Memory.RSS == 0 {
			err = fmt.Errorf("Nomad tells %+v", u)
		}
		return err
	})
	driverTells(t, true)
	other.purge()
	if state, err := os.ReadFile("/proc/" + qemu + "/stat"); err != nil || !strings.Contains(string(state), ") T ") {
		t.Errorf("the VM does not hang any more: %s, %v", state, err)
	}
	command(t, "nomad", "alloc", "signal", "-s", "SIGKILL", hung.waitRunning().ID)
	hung.purge()
	nothingLeft(t)
}
