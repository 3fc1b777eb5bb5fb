//go:build e2e

// Package e2e drives the lab as a user would: it submits jobs to a real Nomad,
// whose VMs run under a real libvirt and QEMU, and looks at what comes of them.
// It runs inside the lab: make e2e.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	poolDir = "/var/lib/virt/storage"
	lab     = "../lab/lab"

	// How long to wait for what comes of a job. Guests run without KVM, and two
	// of them share two cores.
	startTimeout  = 90 * time.Second
	tinyTimeout   = 2 * time.Minute
	debianTimeout = 6 * time.Minute
	endTimeout    = 90 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv("LAB_INSIDE") == "" {
		fmt.Fprintln(os.Stderr, "e2e: these tests run inside the lab, run them by: make e2e")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// command runs a program, and returns what it printed. A failure ends the test.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

func virsh(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, "virsh", append([]string{"-q", "-c", "qemu:///system"}, args...)...)
}

// eventually waits until a condition holds, and fails with what it last said.
func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

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

func submitFile(t *testing.T, name, file string) *job {
	t.Helper()
	command(t, "nomad", "job", "run", "-detach", file)
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
	if _, err := try("nomad", "job", "status", j.name); err != nil {
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

// vm is the name of the only VM of a task that is defined.
func vmOf(t *testing.T, task string) string {
	t.Helper()
	var found []string
	for name := range strings.Lines(virsh(t, "list", "--all", "--name")) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, task+"-") {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("want one VM of task %s, found %v", task, found)
	}
	return found[0]
}

// url is where a port is published.
func (a allocation) url(t *testing.T, label, path string) string {
	t.Helper()
	for _, p := range a.AllocatedResources.Shared.Ports {
		if p.Label == label {
			return fmt.Sprintf("http://%s:%d%s", p.HostIP, p.Value, path)
		}
	}
	t.Fatalf("the allocation has no port %s", label)
	return ""
}

// get fetches a page from this host.
func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), nil
}

// getFromFar fetches a page from another host.
func getFromFar(url string) (string, error) {
	return try(lab, "far", "curl", "-sf", "--max-time", "5", url)
}

// page waits for a page that the guest serves.
func page(t *testing.T, within time.Duration, url string) string {
	t.Helper()
	var body string
	eventually(t, within, "page "+url, func() (err error) {
		body, err = get(url)
		return err
	})
	return body
}

// nothingLeft fails when anything of a VM is left on the host. Base images
// stay: they are a cache that tasks share.
func nothingLeft(t *testing.T) {
	t.Helper()
	eventually(t, endTimeout, "nothing left", func() error {
		var left []string
		keep := func(what, found string) {
			if found = strings.TrimSpace(found); found != "" {
				left = append(left, what+": "+found)
			}
		}
		keep("domains", virsh(t, "list", "--all", "--name"))
		keep("volumes", withoutBases(virsh(t, "vol-list", "local")))
		files, err := filepath.Glob(poolDir + "/*")
		if err != nil {
			return err
		}
		keep("files", withoutBases(strings.Join(files, "\n")))
		for _, flags := range [][]string{nil, {"--inactive"}} {
			keep("reservations", matching(virsh(t, append([]string{"net-dumpxml", "default"}, flags...)...), "<host "))
		}
		keep("rules", matching(command(t, "nft", "list", "ruleset"), "nomad"))
		keep("rules", matching(command(t, "iptables-save"), "nomad"))
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			return err
		}
		keep("mounts", matching(string(mounts), " /run/nomad-driver-virt/"))
		vms, err := filepath.Glob("/run/nomad-driver-virt/*")
		if err != nil {
			return err
		}
		keep("directories", strings.Join(vms, "\n"))
		qemu, _ := try("pgrep", "-a", "qemu|virtiofsd")
		keep("processes", qemu)
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n"))
		}
		return nil
	})
}

func matching(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func withoutBases(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "base-") {
			b.WriteString(line)
		}
	}
	return b.String()
}
