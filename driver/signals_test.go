package driver

import (
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
)

func TestSignalThatMeansNothingToAVMIsRefused(t *testing.T) {
	d, _ := newDriver(t)
	d.tasks["id"] = newTask(&drivers.TaskConfig{ID: "id"}, "web-5a6e215e", time.Now(), nil)
	for _, signal := range []string{"SIGHUP", "SIGUSR1", "SIGWINCH", ""} {
		want := `a VM has no use for the signal "` + signal + `"; those that it knows are ` +
			"SIGTERM, SIGINT, SIGQUIT, SIGKILL, SIGSTOP, SIGCONT"
		if err := d.SignalTask("id", signal); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", signal, err, want)
		}
	}
	if err := d.SignalTask("another", "SIGTERM"); err == nil {
		t.Error("a task that is not there is sent a signal")
	}
}
