//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"
)

// job is a job that a test submitted; its allocations are looked up anew.
type job struct {
	t    *testing.T
	name string
}

// submit runs a job as it stands, and purges it when the test ends.
func submit(t *testing.T, name, hcl string) *job {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".nomad.hcl")
	if err := os.WriteFile(file, []byte(hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	return submitFile(t, name, file)
}

// submitFile runs the job of a file, which is given variables of the form name=value.
func submitFile(t *testing.T, name, file string, vars ...string) *job {
	t.Helper()
	args := []string{"job", "run", "-detach"}
	for _, v := range vars {
		args = append(args, "-var", v)
	}
	command(t, "nomad", append(args, file)...)
	j := &job{t, name}
	t.Cleanup(func() {
		if t.Failed() {
			j.explain()
		}
		j.purge()
	})
	return j
}

// purge stops the job, waits for its tasks to be dead and lets Nomad forget it.
func (j *job) purge() {
	j.t.Helper()
	// By its whole name: the commands take the beginning of a name, too.
	if _, err := get(os.Getenv("NOMAD_ADDR") + "/v1/job/" + j.name); err != nil {
		return // it is gone
	}
	_, _ = try("nomad", "job", "stop", "-detach", j.name)
	eventually(j.t, endTimeout, "end of all tasks of "+j.name, func() error {
		for _, a := range j.allocations() {
			for name, task := range a.TaskStates {
				if task.State != "dead" {
					return fmt.Errorf("task %s is %s", name, task.State)
				}
			}
		}
		return nil
	})
	command(j.t, "nomad", "job", "stop", "-detach", "-purge", j.name)
}

// explain prints what helps to see why a test failed.
func (j *job) explain() {
	for _, a := range j.allocations() {
		status, _ := try("nomad", "alloc", "status", a.ID)
		j.t.Log(status)
		for task := range a.TaskStates {
			console, _ := try("nomad", "alloc", "logs", a.ID, task)
			j.t.Log("the end of the console of " + task + ":\n" + console[max(0, len(console)-2000):])
		}
	}
	domains, _ := try("virsh", "list", "--all")
	j.t.Log(domains)
}

type allocation struct {
	ID                 string
	ClientStatus       string
	DesiredStatus      string
	CreateIndex        uint64
	AllocatedResources struct {
		Shared struct {
			Ports []struct {
				Label  string
				Value  int
				HostIP string
			}
		}
	}
	TaskStates map[string]taskState
}

type taskState struct {
	State    string
	Failed   bool
	Restarts int
	Events   []struct {
		Type           string
		DisplayMessage string
		ExitCode       int
	}
}

// allocations lists a job's allocations, the newest last.
func (j *job) allocations() []allocation {
	out, err := try("nomad", "job", "allocs", "-json", j.name)
	if err != nil {
		return nil
	}
	var listed []allocation
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		j.t.Fatalf("allocations of %s: %v", j.name, err)
	}
	all := make([]allocation, 0, len(listed))
	for _, l := range listed {
		var a allocation
		out, err := try("nomad", "alloc", "status", "-json", l.ID)
		if err == nil {
			err = json.Unmarshal([]byte(out), &a)
		}
		if err != nil {
			continue // it went in between
		}
		all = append(all, a)
	}
	for i := range all {
		for k := i + 1; k < len(all); k++ {
			if all[k].CreateIndex < all[i].CreateIndex {
				all[i], all[k] = all[k], all[i]
			}
		}
	}
	return all
}

// newest is the job's newest allocation.
func (j *job) newest() (allocation, error) {
	all := j.allocations()
	if len(all) == 0 {
		return allocation{}, errors.New("the job has no allocation")
	}
	return all[len(all)-1], nil
}

// waitFor waits until a condition on the newest allocation holds.
func (j *job) waitFor(within time.Duration, what string, condition func(allocation) error) allocation {
	j.t.Helper()
	var a allocation
	eventually(j.t, within, what, func() (err error) {
		if a, err = j.newest(); err != nil {
			return err
		}
		return condition(a)
	})
	return a
}

// waitRunning waits until all tasks run.
func (j *job) waitRunning() allocation {
	j.t.Helper()
	return j.waitFor(startTimeout, "running tasks of "+j.name, func(a allocation) error {
		if a.ClientStatus != "running" {
			return fmt.Errorf("the allocation is %s: %s", a.ClientStatus, a.events())
		}
		// Nomad's word is that of the first of them.
		for name, task := range a.TaskStates {
			if task.State == "pending" {
				return fmt.Errorf("task %s is pending: %s", name, a.events())
			}
		}
		return nil
	})
}

// events lists what the tasks' events say, a line each.
func (a allocation) events() string {
	var b strings.Builder
	for name, task := range a.TaskStates {
		for _, e := range task.Events {
			fmt.Fprintf(&b, "%s: %s: %s\n", name, e.Type, e.DisplayMessage)
		}
	}
	return b.String()
}

// tells whether one of the tasks' events has all of these words.
func (a allocation) tells(words ...string) bool {
	for event := range strings.Lines(strings.ToLower(a.events())) {
		missing := func(word string) bool { return !strings.Contains(event, strings.ToLower(word)) }
		if !slices.ContainsFunc(words, missing) {
			return true
		}
	}
	return false
}

// waitEvent waits until an event of the newest allocation has all of these words.
func (j *job) waitEvent(within time.Duration, words ...string) allocation {
	j.t.Helper()
	return j.waitFor(within, fmt.Sprintf("an event of %s with the words %q", j.name, words), func(a allocation) error {
		if !a.tells(words...) {
			return errors.New("the events are\n" + a.events())
		}
		return nil
	})
}

// url is where a port is published.
func (a allocation) url(t *testing.T, label, path string) string {
	t.Helper()
	for _, p := range a.AllocatedResources.Shared.Ports {
		if p.Label == label {
			return "http://" + net.JoinHostPort(p.HostIP, strconv.Itoa(p.Value)) + path
		}
	}
	t.Fatalf("the allocation has no port %s", label)
	return ""
}

// hostPort is where the host answers for a label.
func (a allocation) hostPort(t *testing.T, label string) (host, port string) {
	t.Helper()
	url := strings.TrimPrefix(a.url(t, label, ""), "http://")
	host, port, err := net.SplitHostPort(url)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// guest describes a job of one task, for what tests vary.
type guest struct {
	Name        string // of the job; the task is vm-task
	Type        string // of the job, default service
	Task        string // default vm-task
	Image       string // default tiny.qcow2; "none" makes an empty disk
	Copy        bool   // copies the image; otherwise the disk is chained
	Disk        string // the disk block, instead of Image and Copy
	Cmds        []string
	Config      string // more of the task's config block
	More        string // more of the task block
	Group       string // more of the group block
	HostNetwork string // that the port is published on
	KillTimeout string // default 60s
	Restart     string // the group's restart block, default none
	Memory      int    // MiB, default 256
	Core        bool   // has a core of its own: it is the same one in each lab, so that their guests wait for each other
	CPU         int    // MHz, its weight beside others, of the other lab too; default 1200: four fit into a lab
}

var guestJob = template.Must(template.New("job").Parse(`
job "{{ .Name }}" {
  type = "{{ .Type }}"
  group "group" {
    reschedule {
      attempts  = 0
      unlimited = false
    }
    {{ .Restart }}
    {{ .Group }}
    network {
      mode = "host"
      port "http" {
        to = 8000
        {{ with .HostNetwork }}host_network = "{{ . }}"{{ end }}
      }
    }
    task {{ printf "%q" .Task }} {
      driver       = "virt"
      kill_timeout = "{{ .KillTimeout }}"
      template {
        data        = "hello from the allocation\n"
        destination = "local/index.html"
      }
      {{ .More }}
      config {
        cmds = [{{ range .Cmds }}
          {{ printf "%q" . }},{{ end }}
        ]
        disk {
          {{ if .Disk }}{{ .Disk }}{{ else if eq .Image "none" }}size = "1MiB"{{ else }}
          chained = {{ not .Copy }}
          source {
            image = "{{ .Image }}"
          }{{ end }}
        }
        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
        {{ .Config }}
      }
      resources {
        {{ if .Core }}cores  = 1{{ else }}cpu    = {{ .CPU }}{{ end }}
        memory = {{ .Memory }}
      }
    }
  }
}
`))

// serveLocal has the small guest serve what the allocation holds.
const serveLocal = "httpd -p 8000 -h /local"

func (g guest) hcl(t *testing.T) string {
	t.Helper()
	fill := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	fill(&g.Type, "service")
	fill(&g.Task, "vm-task")
	if g.CPU == 0 {
		g.CPU = 1200
	}
	fill(&g.Image, "tiny.qcow2")
	fill(&g.KillTimeout, "60s")
	fill(&g.Restart, "restart {\n attempts = 0\n mode = \"fail\"\n }")
	if g.Memory == 0 {
		g.Memory = 256
	}
	var b bytes.Buffer
	if err := guestJob.Execute(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (g guest) submit(t *testing.T) *job {
	t.Helper()
	return submit(t, g.Name, g.hcl(t))
}
