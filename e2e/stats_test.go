//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
)

// usage is what Nomad's API tells of a task's resources.
type usage struct {
	CPU    struct{ Percent, TotalTicks, UserMode float64 } `json:"CpuStats"`
	Memory struct {
		RSS      int64
		Measured []string
	} `json:"MemoryStats"`
}

func (a allocation) usage(task string) (usage, error) {
	var told struct {
		Tasks map[string]struct{ ResourceUsage usage }
	}
	out, err := get(os.Getenv("NOMAD_ADDR") + "/v1/client/allocation/" + a.ID + "/stats")
	if err == nil {
		err = json.Unmarshal([]byte(out), &told)
	}
	return told.Tasks[task].ResourceUsage, err
}

func TestStatisticsAreThoseOfTheVM(t *testing.T) {
	j := guest{Name: "stats", Cmds: serveShell, KillTimeout: "1s"}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	uses := func(what string, is func(usage) bool) {
		t.Helper()
		eventually(t, tinyTimeout, what, func() error {
			u, err := a.usage("vm-task")
			if err == nil && !is(u) {
				err = fmt.Errorf("Nomad tells %+v", u)
			}
			return err
		})
	}
	const most = 100 << 20 // QEMU has memory of its own beside the guest's 256 MiB, of which not all is used
	uses("a guest that has nothing to do", func(u usage) bool {
		return u.CPU.Percent < 40 && u.Memory.RSS > most/2 && u.Memory.RSS < 10*most
	})
	s.run("(while :; do :; done) > /dev/null 2>&1 &")
	uses("a guest that has", func(u usage) bool {
		return u.CPU.Percent > 50 && u.CPU.Percent < 250 && u.CPU.TotalTicks > 0 && u.CPU.UserMode > 0
	})
	// They go on with another agent, and another plugin.
	command(t, lab, "nomad-restart")
	a = j.waitRunning()
	uses("the same guest", func(u usage) bool { return u.CPU.Percent > 50 })
	j.purge()
	nothingLeft(t)
}
