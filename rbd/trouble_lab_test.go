//go:build lab

package rbd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// silent is an address in the lab's network that nobody has.
const silent = "10.99.0.77:3300"

func TestMonitors(t *testing.T) {
	for name, monitors := range map[string][]string{
		"IPv6":               {"[fd99::2]:3300"},
		"the older protocol": {"10.99.0.2:6789"},
		"one of them away":   {silent, "10.99.0.2:6790", "10.99.0.2:3300"},
	} {
		t.Run(name, func(t *testing.T) {
			p := ceph(t)
			p.Monitors = monitors
			if _, err := p.List(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMonitorsThatAreAwayAreTold(t *testing.T) {
	t.Parallel()
	for name, monitors := range map[string][]string{
		"no such host":   {silent},
		"nobody listens": {"10.99.0.2:6790", "[fd99::2]:6790"},
		"no such name":   {"none.example:3300"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := ceph(t)
			p.Monitors = monitors
			began := time.Now()
			_, err := p.List(t.Context())
			mustBe(t, err, ErrUnreachable, "Ceph pool nomad-pool at monitors "+strings.Join(monitors, ", ")+" cannot be reached: ")
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it takes %s, want 15s at most", took)
			}
		})
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	const other = "rbd-test-other"
	p := ceph(t)
	for _, test := range []struct {
		name   string
		change func(p *Pool)
		says   string
	}{
		{"a wrong key", func(p *Pool) { p.Key = "AQCJ5MtoAAAAABAAKnQ9mZzLq7d0Vq6fJ8pP6w==" },
			"does not let client.nomad in: there is no such user, or the key is not its key"},
		{"an unknown user", func(p *Pool) { p.User = "nobody" }, "does not let client.nobody in"},
		{"no such pool", func(p *Pool) { p.Pool = "no-pool" }, "make it by `ceph osd pool create no-pool`"},
		{"another's pool", func(p *Pool) { p.Pool = other }, "it needs the caps mon 'profile rbd' and osd 'profile rbd pool=" + other + "'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "another's pool" {
				admin(t, "ceph", "osd", "pool", "create", other, "8", "8")
				t.Cleanup(func() {
					admin(t, "ceph", "config", "set", "mon", "mon_allow_pool_delete", "true")
					admin(t, "ceph", "osd", "pool", "rm", other, other, "--yes-i-really-really-mean-it")
				})
			}
			changed := p
			test.change(&changed)
			_, err := changed.List(t.Context())
			mustSay(t, err, test.says)
			mustSay(t, changed.Create(t.Context(), "a", vm.MiB), test.says)
		})
	}
}

func TestSomebodyElsesCephConfIsNotRead(t *testing.T) {
	const file = "/etc/ceph/ceph.conf"
	must(t, os.WriteFile(file, []byte("[global]\nfsid = 11111111-2222-3333-4444-555555555555\nmon host = "+silent+
		"\nkeyring = /none\nauth client required = none\n[client]\nkey = AAAA\nrados osd op timeout = nonsense\n"), 0o600))
	t.Cleanup(func() { os.Remove(file) })
	if _, err := ceph(t).List(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheKeyIsSeenNowhere(t *testing.T) {
	p := ceph(t)
	p.Monitors = []string{silent}
	t.Setenv("CEPH_ARGS", "--id nobody")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = p.List(ctx)
	}()
	eventually(t, 5*time.Second, "rbd runs", func() bool { return len(running(t)) > 0 })
	files, err := filepath.Glob("/proc/[0-9]*/*")
	must(t, err)
	for _, file := range files {
		if name := filepath.Base(file); name != "cmdline" && name != "environ" {
			continue
		}
		// A process may have ended.
		if content, _ := os.ReadFile(file); bytes.Contains(content, []byte(strings.TrimSpace(p.Key))) {
			t.Errorf("the key is in %s", file)
		}
	}
	cancel()
	<-done
	if left := running(t); len(left) > 0 {
		t.Errorf("after its context has ended, rbd runs on as %v", left)
	}
}

// running lists the processes that this process has started for a silent
// monitor, by number.
func running(t *testing.T) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	var found []int
	for _, file := range files {
		content, _ := os.ReadFile(file)
		if args := strings.Split(string(content), "\x00"); args[0] == "rbd" && slices.Contains(args, "--mon-host="+silent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			must(t, err)
			found = append(found, pid)
		}
	}
	return found
}

// forAPlugin is set in a process that plays the plugin, which is then killed.
const forAPlugin = "RBD_TEST_PLUGIN"

func TestRbdDiesWithThePlugin(t *testing.T) {
	if os.Getenv(forAPlugin) != "" {
		p := ceph(t)
		p.Monitors = []string{silent}
		_, _ = p.List(t.Context())
		return
	}
	plugin := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	plugin.Env = append(os.Environ(), forAPlugin+"=1")
	must(t, plugin.Start())
	eventually(t, 10*time.Second, "rbd runs", func() bool { return len(running(t)) == 1 })
	must(t, plugin.Process.Kill())
	_ = plugin.Wait()
	eventually(t, 2*time.Second, "rbd has ended", func() bool { return len(running(t)) == 0 })
}

func TestAFullPoolIsTold(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "a", "b")
	must(t, p.Create(ctx, names[0], vm.MiB))
	full := func() bool { return p.Full(ctx) != nil }
	ratios := func(nearfull, backfillfull, full string) {
		admin(t, "ceph", "osd", "set-nearfull-ratio", nearfull)
		admin(t, "ceph", "osd", "set-backfillfull-ratio", backfillfull)
		admin(t, "ceph", "osd", "set-full-ratio", full)
	}
	t.Cleanup(func() {
		ctx = context.Background()
		ratios("0.73", "0.74", "0.75") // as in lab/lib/ceph.sh
		eventually(t, 60*time.Second, "the pool takes data again", func() bool { return !full() })
	})
	ratios("0.0001", "0.0002", "0.0003")
	eventually(t, 60*time.Second, "the pool is full", full)

	began := time.Now()
	mustBe(t, p.Create(ctx, names[1], vm.MiB), ErrFull, "creating volume "+names[1]+" of 1MiB: Ceph pool nomad-pool is full")
	if took := time.Since(began); took > osdTimeout+15*time.Second {
		t.Errorf("that it is full is told after %s", took)
	}
	mustHave(t, p, names[0], vm.MiB)
	must(t, p.Remove(ctx, names[0])) // what else would make room
}

func TestOSDsThatDoNotAnswerAreTold(t *testing.T) {
	p := ceph(t)
	send := func(signal string) {
		if out, err := exec.Command("../lab/lib/daemon.sh", "kill", "ceph-osd", signal).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	send("STOP")
	t.Cleanup(func() {
		send("CONT")
		// One that was away for so long may not trust what it has, and with no other to
		// ask it waits for ever: it looks anew when it is said to be down.
		admin(t, "ceph", "osd", "down", "0")
		eventually(t, 60*time.Second, "the OSD answers", func() bool {
			_, err := p.List(context.Background())
			return err == nil
		})
	})
	began := time.Now()
	_, err := p.List(t.Context())
	mustBe(t, err, ErrUnreachable, "it does not answer within 30s, though a monitor does")
	if took := time.Since(began); took > osdTimeout+15*time.Second {
		t.Errorf("it takes %s", took)
	}
}
