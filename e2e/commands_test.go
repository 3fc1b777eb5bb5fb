//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	plugin      = "/run/lab/plugins/nomad-driver-virt"
	agentConfig = "/run/lab/agent.hcl"
)

// answer is what the plugin's program says to a person.
type answer struct {
	status      int
	out, errors string
}

func byHand(t *testing.T, args ...string) answer {
	t.Helper()
	var out, complaints bytes.Buffer
	cmd := exec.Command(plugin, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return answer{cmd.ProcessState.ExitCode(), out.String(), complaints.String()}
}

// hostState is what a look at the host must not change.
func hostState(t *testing.T) string {
	t.Helper()
	var all []string
	for _, args := range [][]string{{"list", "--all"}, {"pool-list", "--all", "--details"}, {"net-list", "--all"}, {"net-dumpxml", "default"}, {"secret-list"}} {
		all = append(all, virsh(t, args...))
	}
	all = append(all, command(t, "nft", "-s", "list", "ruleset"), command(t, "sysctl", "-a", "--pattern", "net.ipv4.(ip_forward|conf.*route_localnet)"))
	all = append(all, listed(t, poolDir), listed(t, smallDir), listed(t, "/run/nomad-driver-virt"))
	return strings.Join(all, "\n")
}

// doctorSays fails unless the doctor finds a host in such a state, with a line for
// each of these.
func doctorSays(t *testing.T, status int, args []string, lines ...string) string {
	t.Helper()
	got := byHand(t, append([]string{"doctor"}, args...)...)
	if got.status != status || got.errors != "" {
		t.Errorf("the doctor's status is %d, want %d; it complains %q and says:\n%s", got.status, status, got.errors, got.out)
	}
	words := strings.Join(strings.Fields(strings.ReplaceAll(got.out, "\n", " | ")), " ")
	for _, line := range lines {
		if !strings.Contains("| "+words, "| "+line) {
			t.Errorf("no line of the doctor begins %q:\n%s", line, got.out)
		}
	}
	return got.out
}

func TestDoctorFindsTheLabWell(t *testing.T) {
	before := hostState(t)
	text := doctorSays(t, 0, []string{"-config", agentConfig},
		"ok agent its configuration is taken ("+agentConfig+")",
		"ok plugin_dir "+plugin+" is this program",
		"ok max_kill_timeout guests have up to 3m0s",
		"warning KVM guests are emulated (TCG)",
		"ok libvirt version 9.0.0 answers at qemu:///system",
		"ok QEMU's user QEMU runs as root",
		"ok confinement neither AppArmor nor SELinux",
		"ok directories in guests virtiofs, and 9p",
		"ok qemu-img it is there, with its driver for Ceph",
		"ok pool local "+poolDir+", ",
		"ok pool small "+smallDir+", ",
		"ok files for tasks "+imageDir+" is there",
		"ok network default runs on bridge virbr0, and gives out addresses of 192.168.122.0/24",
		"ok firewall nftables is there",
		"ok route_localnet is off",
		"ok forwarding ",
		"ok cgroups ",
		"warning host's shutdown ",
		"warning memory ")
	var found struct {
		Status   string
		Findings []struct{ Status, Subject, Found, Mend string }
	}
	machine := byHand(t, "doctor", "-json", "-config", agentConfig)
	if err := json.Unmarshal([]byte(machine.out), &found); err != nil || machine.status != 0 || found.Status != "warning" {
		t.Fatalf("for machines the doctor says %+v, %v", machine, err)
	}
	if lines := strings.Count(text, "\n"); lines != len(found.Findings) {
		t.Errorf("the doctor has %d lines for a person and %d findings for machines", lines, len(found.Findings))
	}
	if after := hostState(t); after != before {
		t.Errorf("the doctor has changed the host; it was:\n%s\nand is:\n%s", before, after)
	}
}

func TestDoctorFindsWhatIsBroken(t *testing.T) {
	changed := func(name, from, to string) string {
		t.Helper()
		content, err := os.ReadFile(agentConfig)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(content), from) {
			t.Fatalf("%s does not hold %q", agentConfig, from)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.Replace(string(content), from, to, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	wrong := changed("wrong.hcl", `default = "local"`, `default = "nowhere"`)
	doctorSays(t, 1, []string{"-config", wrong}, `problem agent the Nomad agent does not start with it: the configuration of plugin nomad-driver-virt: `+
		`storage_pools.default: there is no pool "nowhere", there are: local, small; to mend: correct `+wrong)
	doctorSays(t, 1, []string{"-config", changed("moved.hcl", poolDir, "/elsewhere")},
		"problem pool local looking at storage pool local: libvirt has a pool of that name at "+poolDir)
	doctorSays(t, 0, []string{"-config", changed("short.hcl", `max_kill_timeout = "3m"`, "")}, "warning max_kill_timeout is 30s")
	unread := doctorSays(t, 1, []string{"-config", "/nowhere.hcl"},
		"problem agent its configuration cannot be read, and the rest is judged by the plugin's defaults, its pools are unchecked: stat /nowhere.hcl: no such file or directory; to mend: name ",
		"ok libvirt version ")
	for _, text := range []string{unread, doctorSays(t, 0, nil, "warning agent its configuration was not read")} {
		if strings.Contains(text, "pool local") || strings.Contains(text, "pool nomad") {
			t.Errorf("without the agent's configuration the doctor judges pools:\n%s", text)
		}
	}

	away := smallDir + ".away"
	if err := os.Rename(smallDir, away); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Rename(away, smallDir) })
	doctorSays(t, 1, []string{"-config", agentConfig}, "problem pool small its directory "+smallDir+" is not there")
	if err := os.Rename(away, smallDir); err != nil {
		t.Fatal(err)
	}

	virsh(t, "net-destroy", "default")
	t.Cleanup(func() {
		_, _ = try("virsh", "net-define", "/usr/share/libvirt/networks/default.xml") // it may be there
		_, _ = try("virsh", "net-start", "default")
	})
	doctorSays(t, 0, []string{"-config", agentConfig}, "warning networks no network of libvirt's runs")
	virsh(t, "net-undefine", "default")
	text := doctorSays(t, 0, []string{"-config", agentConfig}, "warning networks no network of libvirt's runs")
	_, mend, _ := strings.Cut(text, "; to mend: virsh net-define ")
	mend, _, _ = strings.Cut(mend, "\n")
	command(t, "sh", "-c", "virsh net-define "+mend)
	doctorSays(t, 0, []string{"-config", agentConfig}, "ok network default runs on bridge virbr0, and gives out addresses ")

	hidden, hide := filepath.Join(t.TempDir(), "qemu"), "/usr/bin/qemu-system-x86_64"
	if err := os.WriteFile(hidden, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "--bind", hidden, hide) // libvirt finds none that it may execute
	t.Cleanup(func() { _, _ = try("umount", hide) })
	doctorSays(t, 1, []string{"-config", agentConfig}, "ok libvirt version ",
		"problem QEMU libvirt makes no VMs: ", "ok pool local ", "ok network default ")
	command(t, "umount", hide)
	doctorSays(t, 0, []string{"-config", agentConfig}, "ok libvirt version ", "ok directories in guests ")

	command(t, lab, "libvirt-stop")
	t.Cleanup(func() { command(t, lab, "libvirt-start") })
	doctorSays(t, 1, []string{"-config", agentConfig},
		"problem libvirt libvirt at qemu:///system cannot be reached, is libvirtd running?", "ok pool local ")
	for _, args := range [][]string{{"list"}, {"stats"}, {"console", "0"}} {
		if got := byHand(t, args...); got.status != 1 || !strings.Contains(got.errors, "is libvirtd running?") {
			t.Errorf("%v without libvirt: %+v", args, got)
		}
	}
	driverTells(t, false, "libvirt")
	command(t, lab, "libvirt-start")
	driverTells(t, true)
	doctorSays(t, 0, []string{"-config", agentConfig}, "ok libvirt ")
}

func TestValidateRefusesWhatTheStartWould(t *testing.T) {
	if got := byHand(t, "validate", "-config", agentConfig, "../examples/python.nomad.hcl"); got.status != 0 {
		t.Errorf("a good job: %+v", got)
	}
	const name = "refused"
	bad := filepath.Join(t.TempDir(), "bad.nomad.hcl")
	const content = `
job "refused" {
  group "group" {
    reschedule {
      attempts  = 0
      unlimited = false
    }
    restart {
      attempts = 0
      mode     = "fail"
    }
    network {
      port "http" {}
    }
    task "vm-task" {
      driver = "virt"
      config {
        hostname = "under_score"
        timezone = "Nowhere/Town"
        vcpus    = 0
        disk {
          size = "ten"
          pool = "nowhere"
        }
        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["https"]
          }
        }
      }
      resources {
        memory = 64
      }
    }
  }
}
`
	if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	got := byHand(t, "validate", "-json", "-config", agentConfig, bad)
	var verdict struct {
		Tasks []struct{ Problems, Unchecked []string }
	}
	if err := json.Unmarshal([]byte(got.out), &verdict); err != nil || got.status != 1 || len(verdict.Tasks) != 1 {
		t.Fatalf("the verdict is %+v, %v", got, err)
	}
	if problems := verdict.Tasks[0].Problems; len(problems) != 6 {
		t.Errorf("want 6 problems, got %q", problems)
	}
	events := submitFile(t, name, bad).waitFailed().events()
	for _, problem := range verdict.Tasks[0].Problems {
		if !strings.Contains(events, problem) {
			t.Errorf("the start does not refuse %q, its events are:\n%s", problem, events)
		}
	}
	if want := fmt.Sprintf("has %d problems", len(verdict.Tasks[0].Problems)); !strings.Contains(events, want) {
		t.Errorf("the start tells of other problems, too, or of fewer, than %s:\n%s", want, events)
	}
	nothingLeft(t)
}

// screen is what a process has written.
type screen struct {
	mu   sync.Mutex // guards the buffer
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) must(t *testing.T, show string) {
	t.Helper()
	eventually(t, tinyTimeout, "text on the console", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if strings.Contains(s.text.String(), show) {
			return nil
		}
		return fmt.Errorf("%q is not in:\n%s", show, s.text.String())
	})
}

func TestVMsOfAHostAreListedMeasuredAndTypedAt(t *testing.T) {
	j := guest{Name: "listed", Cmds: []string{"echo commands are done > /dev/console"}, KillTimeout: "1s"}.submit(t)
	a := j.waitRunning()
	vm := vmOf(t, "vm-task")

	var vms []struct{ VM, State, Namespace, Job, Group, Alloc, Task, Node string }
	list := byHand(t, "list", "-json")
	if err := json.Unmarshal([]byte(list.out), &vms); err != nil || list.status != 0 || len(vms) != 1 {
		t.Fatalf("the list is %+v, %v, want one VM", list, err)
	}
	if v := vms[0]; v.VM != vm || v.State != "running" || v.Job != "listed" || v.Group != "group" || v.Alloc != a.ID || v.Task != "vm-task" || v.Namespace != "default" || v.Node == "" {
		t.Errorf("the VM is listed as %+v", v)
	}
	text := byHand(t, "list", "-config", agentConfig)
	if row := strings.Join(strings.Fields(text.out), " "); !strings.Contains(row, "default listed group "+a.ID[:8]+" vm-task "+vm+" running") {
		t.Errorf("for a person the list is:\n%s", text.out)
	}
	for what, args := range map[string][]string{
		`no VM of this host is of allocation "zzz"; there are:`:          {"console", "zzz"},
		`is of allocation "` + a.ID[:4] + `" and task "other"; there ar`: {"stats", a.ID[:4], "other"},
	} {
		if got := byHand(t, args...); got.status != 1 || !strings.Contains(got.errors, what) || !strings.Contains(got.errors, vm) {
			t.Errorf("%v: %+v, want status 1, %q and what there is", args, got, what)
		}
	}

	a.waitLog(t, "commands are done")
	typesAt(t, a.ID[:6])

	var used []struct {
		VM         string
		CPUPercent float64 `json:"cpu_percent"`
		RSS        int64
		Memory     int64
		Disks      []struct {
			Name           string
			Read, Capacity int64
		}
		Interfaces []struct {
			Name           string
			Received, Sent int64
		}
	}
	stats := byHand(t, "stats", "-json", "-interval", "2s", a.ID[:6])
	if err := json.Unmarshal([]byte(stats.out), &used); err != nil || stats.status != 0 || len(used) != 1 {
		t.Fatalf("the statistics are %+v, %v, want those of one VM", stats, err)
	}
	if u := used[0]; u.VM != vm || u.CPUPercent <= 0 || u.CPUPercent > 250 || u.RSS < 64*mib || u.Memory != 256*mib ||
		len(u.Disks) < 1 || u.Disks[0].Name != "vda" || u.Disks[0].Read < mib || u.Disks[0].Capacity < mib ||
		len(u.Interfaces) != 1 || u.Interfaces[0].Sent == 0 || u.Interfaces[0].Received == 0 {
		t.Errorf("the statistics are %+v", u)
	}
	if got := byHand(t, "stats"); got.status != 0 || !strings.Contains(got.out, vm) || !strings.Contains(got.out, used[0].Interfaces[0].Name) {
		t.Errorf("for a person the statistics are %+v", got)
	}
	j.purge()
	if got := byHand(t, "list", "-json"); got.out != "[]\n" {
		t.Errorf("after the job the list is %q", got.out)
	}
	nothingLeft(t)
}

// typesAt opens the console of an allocation's VM, has the guest's shell compute, and
// leaves by Ctrl-].
func typesAt(t *testing.T, alloc string) {
	t.Helper()
	keys, typed := io.Pipe()
	shown := new(screen)
	cmd := exec.CommandContext(t.Context(), plugin, "console", alloc)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = keys, shown, shown
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown.must(t, "Connected to VM vm-task-")
	for _, line := range []string{"\n", "echo $((6*7))7\n"} {
		if _, err := io.WriteString(typed, line); err != nil {
			t.Fatal(err)
		}
	}
	shown.must(t, "427")
	if _, err := io.WriteString(typed, "\x1d"); err != nil {
		t.Fatal(err)
	}
	typed.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the console ended with %v, want status 0 after Ctrl-]", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Ctrl-] does not leave the console")
	}
}
