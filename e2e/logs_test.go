//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// logs is what nomad alloc logs prints of an allocation's only task.
func (a allocation) logs(t *testing.T) string {
	t.Helper()
	return command(t, "nomad", "alloc", "logs", a.ID)
}

// waitLog waits until a task's log has some text.
func (a allocation) waitLog(t *testing.T, text string) {
	t.Helper()
	eventually(t, tinyTimeout, fmt.Sprintf("%q in the log", text), func() error {
		if log := a.logs(t); !strings.Contains(log, text) {
			return fmt.Errorf("it has\n%s", log[max(0, len(log)-500):])
		}
		return nil
	})
}

// counted is the number up to which the guest has counted in a log. It fails where
// one is missing or there twice.
func counted(t *testing.T, log string) int {
	t.Helper()
	last := 0
	for line := range strings.Lines(log) {
		var n int
		if _, err := fmt.Sscanf(line, "count %d.", &n); err != nil {
			continue
		}
		if n != last+1 {
			t.Fatalf("after %d the log has %d", last, n)
		}
		last = n
	}
	return last
}

func TestLogsAreTheConsole(t *testing.T) {
	j := guest{
		Name: "logs",
		Cmds: []string{"i=0; while :; do i=$((i + 1)); echo count $i.; sleep 0.2; done"},
	}.submit(t)
	a := j.waitRunning()
	goesOn := func(what string) {
		t.Helper()
		more := counted(t, a.logs(t)) + 10
		eventually(t, tinyTimeout, what, func() error {
			if n := counted(t, a.logs(t)); n < more {
				return fmt.Errorf("the log has counted to %d, want %d", n, more)
			}
			return nil
		})
	}
	goesOn("a guest that counts")
	if log := a.logs(t); !strings.Contains(log, "SeaBIOS") {
		t.Errorf("the log does not begin with the firmware:\n%s", log[:min(500, len(log))])
	}
	// The console can be used beside it.
	name := vmOf(t, "vm-task")
	if out, _ := try("timeout", "6", "script", "-qec", "virsh -c qemu:///system console "+name, "/dev/null"); !strings.Contains(out, "count ") {
		t.Errorf("virsh console shows\n%s", out)
	}
	goesOn("a log beside the console")

	command(t, lab, "nomad-restart")
	a = j.waitRunning()
	goesOn("a log after the agent's restart")

	killPluginAndWait(t)
	// Nomad's collector has gone with the plugin.
	command(t, lab, "nomad-restart")
	a = j.waitRunning()
	goesOn("a log after the plugin was killed")
	if restarts := a.TaskStates["vm-task"].Restarts; restarts != 0 || vmOf(t, "vm-task") != name {
		t.Errorf("the task was restarted %d times", restarts)
	}
	j.purge()
	nothingLeft(t)
}

func TestConsoleThatPrintsAndPrintsFillsNothing(t *testing.T) {
	j := guest{
		Name: "loud",
		Type: "batch",
		Cmds: []string{"dd if=/dev/zero bs=1k count=2k 2>/dev/null | tr '\\0' x | fold -w 100 > /dev/console; echo the last word; poweroff -f"},
		More: "logs {\n max_files = 2\n max_file_size = 1\n }",
	}.submit(t)
	var a allocation
	eventually(t, 4*tinyTimeout, "the end of 2 MiB", func() (err error) {
		if a, err = j.newest(); err != nil {
			return err
		}
		files, err := filepath.Glob("/var/log/libvirt/nomad-driver-virt/*/console.log*")
		if err != nil {
			return err
		}
		kept := int64(0)
		for _, file := range files {
			if info, err := os.Stat(file); err == nil {
				kept += info.Size()
			}
		}
		if kept > 5*mib/4 { // four files of 256 KiB, each with the end of a write
			t.Fatalf("the console takes %d bytes of the host", kept)
		}
		if a.ClientStatus != "complete" {
			return fmt.Errorf("the allocation is %s, with %d bytes of console", a.ClientStatus, kept)
		}
		return nil
	})
	a.waitLog(t, "the last word")
	dir := command(t, "find", "/run/lab/nomad", "-path", "*"+a.ID+"/alloc/logs", "-type", "d")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil && info.Size() > 3*mib/2 {
			t.Errorf("Nomad's %s has %d bytes", file.Name(), info.Size())
		}
	}
	j.purge()
	nothingLeft(t)
}
