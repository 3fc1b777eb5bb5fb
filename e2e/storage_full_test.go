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

func TestImportThatDoesNotFitFailsAndLeavesNothing(t *testing.T) {
	dataImage(t, "e2e-too-big.img", 300*mib)
	for name, config := range map[string]string{"copied": "", "chained": "chained = true"} {
		t.Run(name, func(t *testing.T) {
			j := guest{Name: "full-" + name, Disk: "pool = \"small\"\n" + config + "\n" + fromImage("e2e-too-big.img")}.submit(t)
			a := j.waitFailed()
			if !a.tells("small", smallDir, "full", "bytes) are needed", fmt.Sprintf("(%d bytes) are free", 256*mib)) {
				t.Errorf("no event tells which pool is full, and by how much:\n%s", a.events())
			}
			if bases := matching(listed(t, smallDir), "base-"); bases != "" {
				t.Errorf("a part of a base was left: %s", bases)
			}
			nothingLeft(t)
		})
	}
}

// A pool may fill up while an image is imported, although it had room for it.
func TestPoolThatFillsUpDuringAnImport(t *testing.T) {
	dataImage(t, "e2e-fits.img", 240*mib)
	filler := filepath.Join(smallDir, "..", "filler")
	t.Cleanup(func() { os.Remove(filler) })
	j := guest{Name: "filling", Disk: "pool = \"small\"\n" + fromImage("e2e-fits.img")}.submit(t)
	goOn := holdImport(t)
	_, _ = try("dd", "if=/dev/zero", "of="+filler, "bs=1M") // until there is no room
	goOn()
	a := j.waitFailed()
	if !a.tells("small", "full", "needed", "free") {
		t.Errorf("no event tells which pool is full, and by how much:\n%s", a.events())
	}
	nothingLeft(t)
}

func TestGuestThatFillsItsPoolWaitsForRoom(t *testing.T) {
	filler := filepath.Join(smallDir, "..", "filler")
	t.Cleanup(func() { os.Remove(filler) })
	j := guest{
		Name: "thirsty", Disk: tinyPrimary, Cmds: serveShell,
		Config: disk("pool = \"small\"\nformat = \"raw\"\nsparse = true\nsize = \"200MiB\"\ndevname = \"vdb\""),
	}.submit(t)
	s := j.waitRunning().shell(t)
	vm := vmOf(t, "vm-task")
	command(t, "fallocate", "-l", fmt.Sprint(150*mib), filler)
	s.run("dd if=/dev/urandom of=/run/data bs=1M count=4; (while cat /run/data; do :; done | dd of=/dev/vdb bs=1M count=180 iflag=fullblock conv=fsync; echo written > /run/done) > /dev/null 2>&1 &")
	state := func(want string) func() error {
		return func() error {
			if got := virsh(t, "domstate", "--reason", vm); !strings.HasPrefix(got, want) {
				return fmt.Errorf("it is %s", got)
			}
			return nil
		}
	}
	eventually(t, tinyTimeout, "a paused guest", state("paused (I/O error)"))
	a := j.waitEvent(10*time.Second, "vdb", "small", "full")
	if task := a.TaskStates["vm-task"]; task.State != "running" || task.Restarts != 0 {
		t.Errorf("the task is %s after %d restarts, want it to stay", task.State, task.Restarts)
	}
	command(t, "rm", filler)
	eventually(t, 90*time.Second, "a guest that goes on", state("running"))
	a = j.waitEvent(10*time.Second, "goes on", "small", "again")
	if task := a.TaskStates["vm-task"]; task.State != "running" || task.Restarts != 0 {
		t.Errorf("the task is %s after %d restarts, want it to stay", task.State, task.Restarts)
	}
	eventually(t, time.Minute, "the end of the guest's writing", func() error {
		if got := s.run("cat /run/done"); got != "written" {
			return errors.New(got)
		}
		return nil
	})
	if got, want := s.digestOf("vdb", 4*mib), s.run("sha256sum < /run/data | cut -d' ' -f1"); got != want {
		t.Error("the disk does not hold what the guest wrote")
	}
	j.purge()
	nothingLeft(t)
}

// importing is the command line of an import, which prlimit begins.
const importing = "qemu-img convert"

// holdImport stops an import as soon as it begins, until it is let go on.
func holdImport(t *testing.T) (goOn func()) {
	t.Helper()
	goOn = func() { _, _ = try("pkill", "-CONT", "-f", importing) }
	t.Cleanup(goOn)
	for deadline := time.Now().Add(startTimeout); ; {
		if _, err := try("pkill", "-STOP", "-f", importing); err == nil {
			return goOn
		}
		if time.Now().After(deadline) {
			t.Fatalf("no import has begun within %s", startTimeout)
		}
	}
}

// killPluginThatImports ends the plugin as a crash does, and waits for the end of
// its qemu-img. The start that Nomad makes then has another one.
func killPluginThatImports(t *testing.T) {
	t.Helper()
	held := strings.Fields(command(t, "pgrep", "-f", importing))
	killPlugin(t)
	eventually(t, endTimeout, "the end of qemu-img", func() error {
		for _, pid := range held {
			if _, err := os.Stat("/proc/" + pid); err == nil {
				return fmt.Errorf("process %s is there", pid)
			}
		}
		return nil
	})
}

func TestLongImportTellsHowFarItIs(t *testing.T) {
	dataImage(t, "e2e-long.img", 1500*mib)
	j := guest{Name: "long", Image: "e2e-long.img", Copy: true, KillTimeout: "1s"}.submit(t)
	goOn := holdImport(t)
	<-time.After(6 * time.Second) // an import is quick here: it takes long because it is held up
	goOn()
	a := j.waitRunning()
	for _, quarter := range []string{"25%", "50%", "75%"} {
		if !a.tells(quarter, "e2e-long.img") {
			t.Errorf("no event tells that %s is done:\n%s", quarter, a.events())
		}
	}
	j.purge()
	nothingLeft(t)
}
