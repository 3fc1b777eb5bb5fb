//go:build e2e

package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestSignalsAreForTheMachine(t *testing.T) {
	j := guest{Name: "signals", Type: "batch", Cmds: serveShell}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	signal := func(name string) error {
		_, err := try("nomad", "alloc", "signal", "-s", name, a.ID)
		return err
	}
	send := func(name, state string) {
		t.Helper()
		if err := signal(name); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, "a VM that is "+state, func() error {
			if got := virsh(t, "domstate", vmOf(t, "vm-task")); got != state {
				return errors.New(got)
			}
			return nil
		})
	}
	send("SIGSTOP", "paused")
	if _, err := s.try("true", 2*time.Second); err == nil {
		t.Error("the guest answers while it is paused")
	}
	send("SIGCONT", "running")
	s.run("true")
	if err := signal("SIGHUP"); err == nil || !strings.Contains(err.Error(), "those that it knows are SIGTERM") {
		t.Errorf("SIGHUP: %v, want a refusal that lists those that are known", err)
	}
	if a := j.waitRunning(); a.TaskStates["vm-task"].Restarts != 0 {
		t.Errorf("the task was restarted:\n%s", a.events())
	}

	if err := signal("SIGTERM"); err != nil {
		t.Fatal(err)
	}
	a = j.waitFor(endTimeout, "a task that is complete", func(a allocation) error {
		if a.ClientStatus != "complete" {
			return errors.New(a.ClientStatus)
		}
		return nil
	})
	if !a.tells("SIGTERM: the guest was asked to shut down") {
		t.Errorf("no event tells of the signal:\n%s", a.events())
	}
	nothingLeft(t)
}

func TestGuestThatIsPausedShutsDownWhenItIsStopped(t *testing.T) {
	j := guest{Name: "paused", Cmds: serveShell}.submit(t)
	a := j.waitRunning()
	a.shell(t)
	command(t, "nomad", "alloc", "signal", "-s", "SIGSTOP", a.ID)
	command(t, "nomad", "job", "stop", "-detach", j.name)
	j.waitEvent(endTimeout, "The guest shut down")
	j.purge()
	nothingLeft(t)
}
