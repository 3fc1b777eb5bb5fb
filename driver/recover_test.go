package driver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// withoutLibvirt returns a driver whose libvirt never answers.
func withoutLibvirt(t *testing.T) *Driver {
	t.Helper()
	d, _ := newDriver(t)
	socket := filepath.Join(t.TempDir(), "none")
	if err := setConfig(d, `provider "libvirt" { uri = "qemu:///system?socket=`+socket+`" }`); err != nil {
		t.Fatal(err)
	}
	return d
}

// storedHandle is what Nomad kept of a task whose handle a driver wrote in
// format 1. The file is never written again: it is what clients have.
func storedHandle(t *testing.T) *drivers.TaskHandle {
	t.Helper()
	state, err := os.ReadFile(filepath.Join("testdata", "handle-v1.msgpack"))
	if err != nil {
		t.Fatal(err)
	}
	return &drivers.TaskHandle{Version: 1, Config: nomadTask(), State: drivers.TaskStateRunning, DriverState: state}
}

// stored is what storedHandle says.
var stored = task{
	vm:      "virt-task-5a6e215e",
	started: time.Date(2026, 1, 2, 3, 4, 5, 678000000, time.UTC),
	network: &drivers.DriverNetwork{IP: "192.168.122.5", PortMap: map[string]int{"http": 8000, "ssh": 22}},
}

func TestHandleIsReadAsItWasWritten(t *testing.T) {
	for name, network := range map[string]*drivers.DriverNetwork{
		"with a network": stored.network,
		"without one":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			handle, err := newTask(nomadTask(), stored.vm, stored.started, network).handle()
			if err != nil {
				t.Fatal(err)
			}
			if handle.Version != 1 || handle.State != drivers.TaskStateRunning || handle.Config.ID != nomadTask().ID {
				t.Errorf("the handle is of version %d, state %s, task %s, want 1, running, %s",
					handle.Version, handle.State, handle.Config.ID, nomadTask().ID)
			}
			d := withoutLibvirt(t)
			if err := d.RecoverTask(handle); err != nil {
				t.Fatalf("the handle is not taken: %v", err)
			}
			checkRecovered(t, d, network)
		})
	}
}

func TestStoredHandleOfVersion1IsStillRead(t *testing.T) {
	d := withoutLibvirt(t)
	if err := d.RecoverTask(storedHandle(t)); err != nil {
		t.Fatalf("the handle is not taken: %v", err)
	}
	checkRecovered(t, d, stored.network)
}

// checkRecovered tells whether the stored task is known, and taken to run.
func checkRecovered(t *testing.T, d *Driver, network *drivers.DriverNetwork) {
	t.Helper()
	got, err := d.InspectTask(nomadTask().ID)
	if err != nil {
		t.Fatalf("the task is not known: %v", err)
	}
	want := &drivers.TaskStatus{
		ID:               nomadTask().ID,
		Name:             "virt-task",
		State:            drivers.TaskStateRunning,
		StartedAt:        stored.started,
		DriverAttributes: map[string]string{"vm": stored.vm},
		NetworkOverride:  network,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the task's status (-want +got):\n%s", diff)
	}
}

func TestTaskThatIsKnownIsNotRecoveredAgain(t *testing.T) {
	d := withoutLibvirt(t)
	if err := d.RecoverTask(storedHandle(t)); err != nil {
		t.Fatal(err)
	}
	known, err := d.task(nomadTask().ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.RecoverTask(storedHandle(t)); err != nil {
		t.Errorf("recovering a task that is known: %v, want no error", err)
	}
	if again, _ := d.task(nomadTask().ID); again != known {
		t.Error("recovering a task that is known replaced it, want it to stay: somebody waits for it")
	}
}

func TestHandleThatCannotBeReadIsAnError(t *testing.T) {
	const unread = "the handle of task c20ee15a-6d3c-4a9e-8f3e-2b1f0d4c7a55/virt-task/5a6e215e "
	version := func(v int) *drivers.TaskHandle {
		h := storedHandle(t)
		h.Version = v
		return h
	}
	cutOff := storedHandle(t)
	cutOff.DriverState = cutOff.DriverState[:10]
	for _, test := range []struct {
		name   string
		handle *drivers.TaskHandle
		want   string // how it begins
	}{
		{"none", nil, "there is no handle to recover a task by"},
		{"of no task", &drivers.TaskHandle{Version: 1}, "there is no handle to recover a task by"},
		{"of an older version", version(0), unread + "is of version 0, this driver knows 1"},
		{"of a newer version", version(2), unread + "is of version 2, this driver knows 1"},
		{"cut off", cutOff, unread + "cannot be read: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := withoutLibvirt(t)
			if err := d.RecoverTask(test.handle); err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("the error is %v, want %s", err, test.want)
			}
			if _, err := d.InspectTask(nomadTask().ID); !errors.Is(err, drivers.ErrTaskNotFound) {
				t.Errorf("the task is known (%v), want it not to be", err)
			}
		})
	}
}
