//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// example is a job below examples/, which is submitted as it stands.
type example struct {
	file  string
	vars  []string // what nomad job run is given by -var
	name  string   // of the job, default the file's
	ports []string // default "http"
	path  string   // of the page, default "/"
	page  []string // what it has to say
	check func(t *testing.T, j *job, a allocation)
	then  string // another example, which finds what this one left
	alone bool   // needs all cores
}

var (
	started  = []string{"nomad-virt-task-"}
	ofImage  = []string{"vda", "50M"}
	ofGolden = []string{"vda", "1G"}
	twoTasks = []string{"blue", "green"}
)

// onDebian are examples of what a distribution makes of a job.
var onDebian = []example{
	{file: "python", name: "python-server", page: []string{hello}, check: checkPython},
	{file: "job", name: "virt-example", vars: []string{"ssh_key=ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2e somebody@somewhere"}, ports: []string{"ssh"}},
	{file: "chained", name: "python-chained", page: []string{hello}},
	{file: "artifact", name: "python-artifact", vars: []string{"image_url=http://10.99.0.1:8080/debian-12.qcow2"}, page: []string{hello}},
	{file: "storage/directory-grown", page: []string{"40G", "39G"}},
}

// onTiny are examples for which the small guest does.
var onTiny = []example{
	{file: "guest/aarch64", page: []string{"aarch64"}},
	{file: "guest/cores", page: []string{"2\n"}, alone: true},
	{file: "guest/environment", page: []string{"hello $USER, this is 'quoted'", "the token has 17 characters", "\n1\n"}},
	{file: "guest/shares", page: []string{"2\nMemTotal:"}},
	{file: "guest/user-data", page: []string{"written for allocation ", "and by its commands"}},
	{file: "life/batch", check: checkBatch},
	{file: "life/stop", page: started, check: checkStop},
	{file: "network/interfaces", page: []string{"52:54:00:00:07:01"}},
	{file: "network/loopback-port", page: started, check: checkLoopback},
	{file: "network/service", page: started, check: checkService},
	{file: "network/static-address", page: []string{"192.168.122.50/24", "default via 192.168.122.1"}, alone: true}, // another's address may be the one it asks for
	{file: "storage/ceph-chained", page: ofImage},
	{file: "storage/ceph-clone", page: ofGolden},
	{file: "storage/ceph-clone-chained", page: ofImage},
	{file: "storage/ceph-grown", page: []string{"vda", "40G"}},
	{file: "storage/ceph-image", page: ofImage},
	{file: "storage/ceph-two-tasks", ports: twoTasks, page: ofImage, alone: true},
	{file: "storage/directory-chained", page: ofImage},
	{file: "storage/directory-clone", page: ofGolden},
	{file: "storage/directory-clone-chained", page: ofImage},
	{file: "storage/directory-image", page: ofImage},
	{file: "storage/directory-kinds", page: append([]string{"sda", "sr0", "\na note on a disk\n"}, ofImage...)},
	{file: "storage/directory-raw", page: ofImage},
	{file: "storage/directory-raw-sparse", page: ofImage},
	{file: "storage/directory-two-disks", page: append([]string{"vdb", "100M", "/mnt"}, ofImage...)},
	{file: "storage/directory-two-tasks", ports: twoTasks, page: ofImage, alone: true},
	{file: "storage/volume-boot", path: "/starts", page: started, then: "storage/volume-boot-again"},
	{file: "storage/volume-directory", path: "/starts", page: started},
	{file: "storage/volume-disk", path: "/starts", page: started},
}

// agents are examples that are no jobs. TestAgentExamplesMakeANodeThatIsReady
// runs them.
var agents = []string{"server", "client"}

func TestEveryExampleIsTested(t *testing.T) {
	tested := slices.Clone(agents)
	names := make(map[string]string)
	for _, e := range slices.Concat(onDebian, onTiny) {
		tested = append(tested, e.file, e.then)
		names[e.file] = e.name
	}
	var found []string
	err := filepath.WalkDir("../examples", func(path string, _ fs.DirEntry, err error) error {
		if file, isJob := strings.CutSuffix(path, ".nomad.hcl"); isJob {
			found = append(found, strings.TrimPrefix(file, "../examples/"))
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("there are no examples (error %v)", err)
	}
	for _, file := range found {
		if !slices.Contains(tested, file) {
			t.Errorf("example %s is in no test", file)
		}
		text, err := os.ReadFile("../examples/" + file + ".nomad.hcl")
		if err != nil {
			t.Fatal(err)
		}
		name := names[file]
		if name == "" {
			name = filepath.Base(file)
		}
		isJob := slices.Contains(agents, file) || strings.Contains(string(text), "job \""+name+"\" {")
		if !strings.HasPrefix(string(text), "# ") || !isJob {
			t.Errorf("example %s does not begin with what it shows, or its job is not called %s", file, name)
		}
	}
}

func TestExamplesOnDebianRunAsTheyStand(t *testing.T) {
	runAll(t, onDebian)
	nothingLeft(t)
}

func TestExamplesOnTheTinyGuestRunAsTheyStand(t *testing.T) {
	// What the jobs' headers say that an operator has made.
	startCeph(t)
	volumeOfCeph(t, "golden", imageDir+"/tiny.qcow2")
	volumeOfPool(t, "local", "golden.qcow2", "1GiB", "qcow2", imageDir+"/tiny.qcow2")
	volumes := []string{"directory", "disk", "boot"}
	for _, name := range volumes {
		nomadVolumeOf(t, "../examples/storage/"+name+".volume.hcl")
	}
	volumesReady(t)
	deviceOfInterfaces(t)

	runAll(t, onTiny)
	eventually(t, endTimeout, "the disk that is kept", func() error {
		name, _, found := strings.Cut(strings.TrimSpace(kept(t, "local")), " ")
		if !found {
			return errors.New("there is none")
		}
		virsh(t, "vol-delete", "--pool", "local", name)
		return nil
	})
	nothingLeft(t, append(volumes, "golden", loopDir)...)
}

// runAll runs jobs beside each other, as many as the host has cores: each of their
// VMs has one.
func runAll(t *testing.T, examples []example) {
	t.Helper()
	t.Run("jobs", func(t *testing.T) {
		for _, e := range examples {
			t.Run(e.file, func(t *testing.T) {
				if !e.alone {
					t.Parallel()
				}
				e.run(t)
			})
		}
	})
}

func (e example) run(t *testing.T) {
	t.Helper()
	first := e.pages(t, e.file)
	if e.then == "" {
		return
	}
	if second := e.pages(t, e.then); !strings.HasPrefix(second, first) || second == first {
		t.Errorf("the page of %s is\n%s\nwant it to go on from what %s left\n%s", e.then, second, e.file, first)
	}
}

// pages runs a job of the example to its end, and returns its last page.
func (e example) pages(t *testing.T, file string) (got string) {
	t.Helper()
	name := e.name
	if name == "" {
		name = filepath.Base(file)
	}
	j := submitFile(t, name, "../examples/"+file+".nomad.hcl", e.vars...)
	a := allocation{}
	if len(e.page) > 0 || len(e.ports) > 0 {
		a = j.waitRunning()
		got = e.wantPages(t, a, file)
	}
	if e.check != nil {
		e.check(t, j, a)
	}
	j.purge()
	return got
}

func (e example) wantPages(t *testing.T, a allocation, file string) (got string) {
	t.Helper()
	ports, path := e.ports, e.path
	if len(ports) == 0 {
		ports = []string{"http"}
	}
	if path == "" {
		path = "/"
	}
	for _, port := range ports {
		url := a.url(t, port, path)
		if port == "ssh" {
			answersBySSH(t, url)
			continue
		}
		got = page(t, debianTimeout, url)
		for _, want := range e.page {
			if !strings.Contains(got, want) {
				t.Errorf("the page of %s on port %s does not say %q:\n%s", file, port, want, got)
			}
		}
	}
	return got
}

// answersBySSH waits for a server of SSH at the address of a URL.
func answersBySSH(t *testing.T, url string) {
	t.Helper()
	address := strings.Trim(strings.TrimPrefix(url, "http:"), "/")
	eventually(t, debianTimeout, "SSH at "+address, func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		said := make([]byte, len("SSH-2.0-"))
		err = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if err == nil {
			_, err = io.ReadFull(c, said)
		}
		if err == nil && string(said) != "SSH-2.0-" {
			return fmt.Errorf("it says %q", said)
		}
		return err
	})
}

// checkPython looks at the README's job from all sides.
func checkPython(t *testing.T, _ *job, a allocation) {
	if got, err := getFromFar(a.url(t, "http", "/")); err != nil || got != strings.TrimSpace(hello) {
		t.Errorf("from another host: got page %q, error %v", got, err)
	}
	if !strings.Contains(a.events(), "Copied image ") {
		t.Errorf("no event tells that the image was copied:\n%s", a.events())
	}
	log := a.logs(t)
	for _, want := range []string{"SeaBIOS", "Reached target", "Cloud-init v."} {
		if !strings.Contains(log, want) {
			t.Errorf("the task's log does not have %q, its end is\n%s", want, log[max(0, len(log)-2000):])
		}
	}
}

func checkBatch(t *testing.T, j *job, _ allocation) {
	a := j.waitFor(tinyTimeout, "completion", func(a allocation) error {
		if a.ClientStatus != "complete" {
			return fmt.Errorf("the allocation is %s", a.ClientStatus)
		}
		return nil
	})
	if !a.tells("Exit Code: 0") {
		t.Errorf("want exit code 0:\n%s", a.events())
	}
	if log := a.logs(t); !strings.Contains(log, "the sum is 42") {
		t.Errorf("the task's log has no result:\n%s", log)
	}
}

func checkStop(t *testing.T, j *job, a allocation) {
	for _, signal := range []string{"SIGSTOP", "SIGCONT"} {
		command(t, "nomad", "alloc", "signal", "-s", signal, a.ID)
	}
	page(t, tinyTimeout, a.url(t, "http", "/"))
	command(t, "nomad", "job", "stop", "-detach", j.name)
	j.waitEvent(endTimeout, "The guest shut down")
}

func checkLoopback(t *testing.T, _ *job, a allocation) {
	if url := a.url(t, "http", "/"); !strings.HasPrefix(url, "http://127.0.0.1:") {
		t.Errorf("the port is published at %s, want 127.0.0.1", url)
	}
}

func checkService(t *testing.T, _ *job, a allocation) {
	host := strings.Trim(strings.TrimPrefix(a.url(t, "http", "/"), "http:"), "/")
	for service, address := range map[string]string{"virt-web": host, "virt-web-guest": "192.168.122."} {
		if got := command(t, "nomad", "service", "info", service); !strings.Contains(got, address) {
			t.Errorf("service %s is not at %s:\n%s", service, address, got)
		}
	}
	eventually(t, endTimeout, "a check that passes", func() error {
		got, err := try("nomad", "alloc", "checks", a.ID)
		if err == nil && !strings.Contains(got, "success") {
			return errors.New(got)
		}
		return err
	})
}

// deviceOfInterfaces makes the network device that network/interfaces is beside.
func deviceOfInterfaces(t *testing.T) {
	t.Helper()
	command(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0-end")
	t.Cleanup(func() { command(t, "ip", "link", "delete", "eth0") })
	command(t, "ip", "link", "set", "eth0", "up")
	command(t, "ip", "link", "set", "eth0-end", "up")
}
