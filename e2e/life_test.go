//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const hello = "hello from the allocation\n"

func TestPublishedPortAnswersAndNothingIsLeft(t *testing.T) {
	j := guest{Name: "page", Cmds: []string{serveLocal}, Core: true}.submit(t)
	a := j.waitRunning()
	url := a.url(t, "http", "/")
	if got := page(t, tinyTimeout, url); got != hello {
		t.Errorf("from the host: got page %q, want %q", got, hello)
	}
	if got, err := getFromFar(url); err != nil || got != strings.TrimSpace(hello) {
		t.Errorf("from another host: got page %q, error %v", got, err)
	}
	j.waitEvent(endTimeout, "Started VM vm-task-", "its address is 192.168.122.")
	cpus := virsh(t, "vcpuinfo", vmOf(t, "vm-task"))
	pins := strings.Fields(matching(cpus, "CPU Affinity"))
	if strings.Count(cpus, "VCPU:") != 1 || strings.Count(pins[len(pins)-1], "y") != 1 {
		t.Errorf("want one vCPU, pinned to one reserved core, got\n%s", cpus)
	}
	j.purge()
	nothingLeft(t)
	if _, err := get(url); err == nil {
		t.Error("the port still answers after the job was stopped")
	}
}

func TestServiceStartsAnewAfterPoweroff(t *testing.T) {
	j := guest{
		Name:    "anew",
		Restart: "restart {\n attempts = 2\n delay = \"1s\"\n interval = \"10m\"\n mode = \"fail\"\n }",
		Cmds:    []string{serveLocal},
	}.submit(t)
	a := j.waitRunning()
	page(t, tinyTimeout, a.url(t, "http", "/"))
	first := vmOf(t, "vm-task")
	mac := virsh(t, "domiflist", first)
	url, leads := a.url(t, "http", "/"), publishedAt(t, first)
	virsh(t, "shutdown", first)
	a = j.waitFor(tinyTimeout, "another start", func(a allocation) error {
		if task := a.TaskStates["vm-task"]; task.Restarts != 1 || task.State != "running" {
			return fmt.Errorf("the task is %s after %d restarts", task.State, task.Restarts)
		}
		return nil
	})
	page(t, tinyTimeout, url)
	second := vmOf(t, "vm-task")
	if again, to := a.url(t, "http", "/"), publishedAt(t, second); again != url || to != leads {
		t.Errorf("%s leads to %s now, and %s led to %s", again, to, url, leads)
	}
	if second == first {
		t.Errorf("both starts have VM %s", first)
	}
	if got := virsh(t, "domiflist", second); strings.Fields(got)[4] != strings.Fields(mac)[4] {
		t.Errorf("the hardware address changed from\n%s\nto\n%s", mac, got)
	}
	j.purge()
	nothingLeft(t)
}

// publishedAt is the guest's address and port that the port of a VM leads to.
func publishedAt(t *testing.T, vm string) string {
	t.Helper()
	_, leads, found := strings.Cut(command(t, "nft", "list", "map", "inet", "nomad_virt", "ports"), `"`+vm+` http on virbr0" : `)
	if !found {
		t.Fatalf("nothing is published for VM %s", vm)
	}
	to := strings.Fields(leads) // as in "192.168.122.50 . 8000, "
	return to[0] + ":" + strings.TrimRight(to[2], ",")
}

func TestRebootDoesNotEndTheTask(t *testing.T) {
	j := guest{Name: "reboot", Cmds: []string{"cat /proc/sys/kernel/random/boot_id > /run/index.html", "httpd -p 8000 -h /run"}}.submit(t)
	a := j.waitRunning()
	url := a.url(t, "http", "/")
	first := page(t, tinyTimeout, url)
	virsh(t, "reset", vmOf(t, "vm-task"))
	eventually(t, tinyTimeout, "another boot", func() error {
		switch now, err := get(url); {
		case err != nil:
			return err
		case now == first:
			return errors.New("it has not booted again")
		}
		return nil
	})
	a, err := j.newest()
	if err != nil {
		t.Fatal(err)
	}
	if task := a.TaskStates["vm-task"]; task.State != "running" || task.Restarts != 0 {
		t.Errorf("the task is %s after %d restarts, want it to run on", task.State, task.Restarts)
	}
	j.purge()
	nothingLeft(t)
}

func TestStopAsksTheGuestFirst(t *testing.T) {
	goodbyes := listen(t)
	j := guest{
		Name: "goodbye",
		Cmds: []string{
			"mkdir -p /etc/shutdown.d",
			fmt.Sprintf("printf '#!/bin/sh\\necho goodbye | nc -w 2 192.168.122.1 %d\\n' > /etc/shutdown.d/say", goodbyes.port),
			"chmod +x /etc/shutdown.d/say",
			serveLocal,
		},
	}.submit(t)
	a := j.waitRunning()
	page(t, tinyTimeout, a.url(t, "http", "/"))
	j.purge()
	goodbyes.want(t, "goodbye\n")
	nothingLeft(t)
}

func TestStopDestroysWhatDoesNotListen(t *testing.T) {
	// The firmware finds nothing to boot, and hears no power button.
	j := guest{Name: "deaf", Image: "none", KillTimeout: "6s"}.submit(t)
	j.waitRunning()
	began := time.Now()
	command(t, "nomad", "job", "stop", "-detach", j.name)
	a := j.waitDead(endTimeout)
	if took := time.Since(began); took < 6*time.Second {
		t.Errorf("the VM was gone after %s, it had 6s to shut down", took)
	}
	if !strings.Contains(a.events(), "did not shut down within 6s") {
		t.Errorf("no event tells that the VM was destroyed:\n%s", a.events())
	}
	nothingLeft(t)
}

func TestStopDuringStartEndsClean(t *testing.T) {
	slow := bigImage(t)
	j := guest{Name: "hasty", Image: slow, Copy: true, KillTimeout: "1s"}.submit(t)
	eventually(t, startTimeout, "a VM being made", volumeOf("vm-task"))
	j.purge()
	nothingLeft(t)
}

func TestPluginKilledDuringImport(t *testing.T) {
	slow := bigImage(t)
	bases := matching(listed(t, poolDir)+"\n", "/base-")
	j := guest{Name: "killed", Image: slow, KillTimeout: "1s"}.submit(t)
	holdImport(t)
	killPluginThatImports(t)
	if found := matching(listed(t, poolDir)+"\n", "/base-"); found != bases {
		t.Errorf("half a base was left: there are\n%s\nthere were\n%s", found, bases)
	}
	j.waitRunning()
	if found := matching(virsh(t, "vol-list", "local"), "-vda.qcow2"); strings.Count(found, "\n") > 1 {
		t.Errorf("want the volumes of one start, found\n%s", found)
	}
	j.purge()
	nothingLeft(t)
}

func TestLibvirtGoneDuringStartLeavesNothing(t *testing.T) {
	slow := bigImage(t)
	j := guest{Name: "gone", Image: slow, Copy: true, KillTimeout: "1s"}.submit(t)
	eventually(t, startTimeout, "a copy that runs", volumeOf("vm-task"))
	command(t, lab, "libvirt-stop")
	t.Cleanup(func() { command(t, lab, "libvirt-start") }) // does nothing when it runs
	a := j.waitFailed()
	if !strings.Contains(a.events(), "is libvirtd running?") {
		t.Errorf("the events do not say why:\n%s", a.events())
	}
	driverTells(t, false, "is libvirtd running?")
	command(t, lab, "libvirt-start")
	driverTells(t, true)
	nothingLeft(t)
}

// volumeOf tells when a volume of a task's VM is being filled.
func volumeOf(task string) func() error {
	return func() error {
		if files, _ := filepath.Glob(poolDir + "/" + task + "-*-vda*"); len(files) == 0 {
			return errors.New("there is no volume yet")
		}
		if _, err := try("pgrep", "qemu-img"); err != nil {
			return errors.New("qemu-img does not run")
		}
		return nil
	}
}

// bigImage makes an image that takes seconds to import, and is not bootable.
func bigImage(t *testing.T) string {
	t.Helper()
	path := filepath.Join("/var/lib/virt/images", strings.ToLower(t.Name())+".img")
	command(t, "dd", "if=/dev/urandom", "of="+path, "bs=1M", "count=3000", "status=none")
	t.Cleanup(func() {
		os.Remove(path)
		bases, _ := filepath.Glob(poolDir + "/base-*")
		for _, base := range bases {
			if info, err := os.Stat(base); err == nil && info.Size() > 2<<30 {
				_, _ = try("virsh", "-q", "vol-delete", "--pool", "local", filepath.Base(base))
			}
		}
	})
	return filepath.Base(path)
}

// listener hears what guests send to the host.
type listener struct {
	port  int
	heard chan string
}

func listen(t *testing.T) *listener {
	t.Helper()
	socket, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	l := &listener{port: socket.Addr().(*net.TCPAddr).Port, heard: make(chan string, 10)}
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			buf := make([]byte, 1024)
			n, _ := conn.Read(buf)
			conn.Close()
			l.heard <- string(buf[:n])
		}
	}()
	return l
}

func (l *listener) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-l.heard:
		if got != want {
			t.Errorf("the guest said %q, want %q", got, want)
		}
	case <-time.After(endTimeout):
		t.Errorf("the guest did not say %q", want)
	}
}
