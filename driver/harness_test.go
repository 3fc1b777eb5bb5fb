package driver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// These tests ask for what Nomad's client asks for, as it does: by gRPC. VMs are
// in memory.

func TestTaskFromStartToEnd(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	handle, network, err := p.StartTask(cfg)
	mustDo(t, err)
	if handle.State != drivers.TaskStateRunning || handle.Config.ID != cfg.ID {
		t.Errorf("the handle is of task %s in state %s, want %s, running", handle.Config.ID, handle.State, cfg.ID)
	}
	want := &drivers.DriverNetwork{IP: "192.168.122.2", PortMap: map[string]int{"http": 8000}}
	if diff := cmp.Diff(want, network); diff != "" {
		t.Errorf("the network (-want +got):\n%s", diff)
	}
	if guest, err := c.host.Guest(t.Context(), vmOf(cfg)); err != nil || guest != hypervisor.GuestRuns {
		t.Errorf("the guest is %d, %v, want it to run", guest, err)
	}
	status, err := p.InspectTask(cfg.ID)
	mustDo(t, err)
	if status.State != drivers.TaskStateRunning || status.StartedAt.IsZero() || !status.CompletedAt.IsZero() ||
		status.DriverAttributes["vm"] != vmOf(cfg) {
		t.Errorf("the status of a task that runs is %+v", status)
	}
	ended := p.wait(t, cfg)

	mustDo(t, p.StopTask(cfg.ID, time.Minute, "SIGINT"))
	mustExit(t, ended, 0, 0, "")
	status, err = p.InspectTask(cfg.ID)
	mustDo(t, err)
	if status.State != drivers.TaskStateExited || status.CompletedAt.Before(status.StartedAt) ||
		status.ExitResult == nil || status.ExitResult.ExitCode != 0 {
		t.Errorf("the status of a task that has ended is %+v, with the result %+v", status, status.ExitResult)
	}
	mustDo(t, p.DestroyTask(cfg.ID, false))
	p.mustBeUnknown(t, cfg)
	c.nothingLeft(t)
}

func TestStopIsIdempotent(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	mustDo(t, c.host.Deafen(vmOf(cfg)))
	stopped := make(chan error)
	for range 3 {
		go func() { stopped <- p.StopTask(cfg.ID, 50*time.Millisecond, "") }()
	}
	for range 3 {
		if err := <-stopped; err != nil {
			t.Errorf("one of several stops at the same time: %v, want no error", err)
		}
	}
	if err := p.StopTask(cfg.ID, time.Minute, ""); err != nil {
		t.Errorf("the stop of a task that has ended: %v, want no error", err)
	}
	mustExit(t, p.wait(t, cfg), 137, 9, "") // it was Nomad's own hand
}

func TestStopFailsWhileTheHypervisorIsAway(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	c.host.GoAway()
	if err := p.StopTask(cfg.ID, time.Millisecond, ""); err == nil {
		t.Error("a VM that cannot be destroyed is said to be stopped")
	}
	p.mustBeIn(t, cfg, drivers.TaskStateRunning)
	c.host.ComeBack()
	mustDo(t, p.StopTask(cfg.ID, time.Minute, ""))
	p.mustBeIn(t, cfg, drivers.TaskStateExited)
}

func TestEndIsToldToAllWhoWait(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	var all []<-chan *drivers.ExitResult
	for range 3 {
		all = append(all, p.wait(t, cfg))
	}
	mustDo(t, c.host.Crash(vmOf(cfg)))
	for _, ended := range append(all, p.wait(t, cfg)) {
		mustExit(t, ended, 1, 0, "crashed")
	}
}

func TestExitTellsHowTheVMEnded(t *testing.T) {
	c := newClient(t)
	for _, test := range []struct {
		name         string
		end          func(p *plugin, cfg *drivers.TaskConfig) error
		code, signal int
		why          string
	}{
		{"its guest turned itself off", func(_ *plugin, cfg *drivers.TaskConfig) error { return c.host.PowerOff(vmOf(cfg)) }, 0, 0, ""},
		{"another hand destroyed it", func(_ *plugin, cfg *drivers.TaskConfig) error { return c.host.Kill(vmOf(cfg)) }, 137, 9, "another hand"},
		{"QEMU crashed", func(_ *plugin, cfg *drivers.TaskConfig) error { return c.host.Crash(vmOf(cfg)) }, 1, 0, "crashed"},
		{"it was undefined and destroyed", func(_ *plugin, cfg *drivers.TaskConfig) error {
			mustDo(t, c.host.Undefine(t.Context(), vmOf(cfg)))
			return c.host.Kill(vmOf(cfg))
		}, 137, 9, "another hand"},
		{"Nomad stopped it", func(p *plugin, cfg *drivers.TaskConfig) error { return p.StopTask(cfg.ID, time.Minute, "") }, 0, 0, ""},
		{"Nomad stopped it when it was paused", func(p *plugin, cfg *drivers.TaskConfig) error {
			mustDo(t, c.host.Suspend(t.Context(), vmOf(cfg)))
			return p.StopTask(cfg.ID, time.Minute, "")
		}, 0, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, cfg := c.plugin(t), emptyTask(t)
			p.start(t, cfg)
			ended := p.wait(t, cfg)
			mustDo(t, test.end(p, cfg))
			mustExit(t, ended, test.code, test.signal, test.why)
			mustDo(t, p.DestroyTask(cfg.ID, false))
			c.nothingLeft(t)
		})
	}
}

func TestStartThatFailsHalfWayLeavesNothing(t *testing.T) {
	for method, step := range map[string]string{
		"Define": "define the VM", "Reserve": "choose an address", "CreateVolume": "make disk vda",
		"attach": "share the allocation's directories", "publish": "publish ports",
		"Start": "start the VM", "Resume": "let the guest run",
		"make": "make a place for its console's log", "SetCPUShares": "give it its share of the CPUs",
	} {
		t.Run(method, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), emptyTask(t)
			fail := func(err error) {
				switch method {
				case "attach":
					c.shares.fail(err)
				case "publish":
					c.ports.fail(err)
				case "make":
					c.consoles.fail(err)
				default:
					c.host.Fail(method, err)
				}
			}
			fail(errBroken)
			_, _, err := p.StartTask(cfg)
			if err == nil || !strings.Contains(err.Error(), "could not "+step) || !strings.Contains(err.Error(), errBroken.Error()) {
				t.Errorf("the error is %v, want it to say that it could not %s because %v", err, step, errBroken)
			}
			p.mustBeUnknown(t, cfg)
			c.nothingLeft(t)

			fail(nil)
			p.start(t, cfg) // nothing is in its way
			p.mustBeIn(t, cfg, drivers.TaskStateRunning)
		})
	}
}

func TestTaskIsNotStartedTwice(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	if _, _, err := p.StartTask(cfg); err == nil || !strings.Contains(err.Error(), "started already") {
		t.Errorf("the second start of a task: %v, want an error", err)
	}
	p.mustBeIn(t, cfg, drivers.TaskStateRunning)
}

func TestStartIsTriedAgainWhenTheHypervisorIsAway(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	c.host.GoAway()
	if _, _, err := p.StartTask(cfg); !structs.IsRecoverable(err) {
		t.Errorf("the error is %v, want one after which Nomad tries again", err)
	}
	c.host.ComeBack()
	p.start(t, cfg)
}

func TestTaskIsRecoveredByTheNextPlugin(t *testing.T) {
	c := newClient(t)
	for _, test := range []struct {
		name         string
		meanwhile    func(name string) error // when no plugin is there
		afterwards   func(name string) error
		code, signal int
		why          string
	}{
		{"it runs", nil, c.host.PowerOff, 0, 0, ""},
		{"it has ended", c.host.PowerOff, nil, 0, 0, ""},
		{"it was destroyed", c.host.Kill, nil, 137, 9, "another hand"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg, first := emptyTask(t), c.plugin(t)
			handle := first.start(t, cfg)
			before, err := first.InspectTask(cfg.ID)
			mustDo(t, err)
			first.kill()
			if test.meanwhile != nil {
				mustDo(t, test.meanwhile(vmOf(cfg)))
			}

			p := c.plugin(t)
			mustDo(t, p.RecoverTask(handle))
			ended := p.wait(t, cfg)
			if test.afterwards != nil {
				after, err := p.InspectTask(cfg.ID)
				mustDo(t, err)
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("the task's status (-before +after):\n%s", diff)
				}
				mustDo(t, test.afterwards(vmOf(cfg)))
			}
			mustExit(t, ended, test.code, test.signal, test.why)
			mustDo(t, p.DestroyTask(cfg.ID, false))
			c.nothingLeft(t)
		})
	}
}

// Nomad does not ask again for a stop that a plugin has begun which was killed.
func TestNextPluginGoesOnWithAStop(t *testing.T) {
	for name, away := range map[string]bool{"libvirt is there": false, "libvirt is away first": true} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			first, cfg := c.plugin(t), emptyTask(t)
			handle := first.start(t, cfg)
			mustDo(t, c.host.Deafen(vmOf(cfg)))
			stopped := make(chan error, 1)
			go func() { stopped <- first.StopTask(cfg.ID, 3*time.Second, "") }()
			eventually(t, "the stop is noted", func() bool {
				by, err := c.host.StopNoted(t.Context(), vmOf(cfg))
				return err == nil && !by.IsZero()
			})
			first.kill()
			if err := <-stopped; err == nil {
				t.Fatal("the first plugin has stopped it")
			}
			if away {
				c.host.GoAway()
			}
			p := c.plugin(t)
			mustDo(t, p.RecoverTask(handle))
			ended := p.wait(t, cfg)
			c.host.ComeBack()
			mustExit(t, ended, 137, 9, "")
			mustDo(t, p.DestroyTask(cfg.ID, false))
			c.nothingLeft(t)
		})
	}
}

func TestWhatAVMHasOnTheNetworkStays(t *testing.T) {
	for name, recovered := range map[string]bool{"of the plugin that started it": false, "of the next one": true} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), emptyTask(t)
			handle := p.start(t, cfg)
			if recovered {
				p.kill()
				p = c.plugin(t)
				mustDo(t, p.RecoverTask(handle))
			}
			events := p.events(t, cfg)
			mustDo(t, c.ports.remove(vmOf(cfg)))
			mustDo(t, c.ports.add("ghost-5a6e215e"))
			mustDo(t, c.taps.add(vmOf(cfg)+"-0"))
			c.changes <- struct{}{}
			eventually(t, "all is as it was", func() bool {
				return slices.Equal(c.ports.all(), []string{vmOf(cfg)}) && len(c.taps.all()) == 0
			})
			for _, want := range []string{"back on it", "published again"} {
				if e := nextEvent(t, events); !strings.Contains(e.Message, want) {
					t.Errorf("the event is %q, want it to say %q", e.Message, want)
				}
			}
			// One that is destroyed is not published any more.
			mustDo(t, p.DestroyTask(cfg.ID, true))
			c.changes <- struct{}{}
			c.changes <- struct{}{} // it is heard when the look before it is over
			c.nothingLeft(t)
		})
	}
}

func TestHostThatShutsDownCompletesNothing(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	ended := p.wait(t, cfg)
	c.stopping.Store(true)
	mustDo(t, c.host.PowerOff(vmOf(cfg)))
	mustExit(t, ended, 1, 0, "its host is shutting down")
	mustDo(t, p.DestroyTask(cfg.ID, false))
	c.nothingLeft(t)

	next := emptyTask(t)
	_, _, err := p.StartTask(next)
	if err == nil || !strings.Contains(err.Error(), "the host is shutting down") || !structs.IsRecoverable(err) {
		t.Errorf("a start meanwhile: %v, want a refusal that is worth another try", err)
	}
	p.mustBeUnknown(t, next)
	c.nothingLeft(t)

	c.stopping.Store(false)
	p.start(t, next)
	ended = p.wait(t, next)
	c.stopping.Store(true)
	mustDo(t, p.StopTask(next.ID, time.Minute, "")) // by Nomad's will
	mustExit(t, ended, 0, 0, "")
}

// Nomad or the plugin died before the first start was known, and its guest has run.
func TestForgottenGuestIsAskedToShutDown(t *testing.T) {
	for name, test := range map[string]struct {
		happen func(c *client, name string) error
		code   int
	}{
		"that runs":                    {func(*client, string) error { return nil }, 0},
		"that is undefined":            {func(c *client, name string) error { return c.host.Undefine(t.Context(), name) }, 137}, // how it ends cannot be read
		"that is paused, or never ran": {func(c *client, name string) error { return c.host.Suspend(t.Context(), name) }, 137},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			first, cfg := c.plugin(t), emptyTask(t)
			first.start(t, cfg)
			first.kill()
			mustDo(t, test.happen(c, vmOf(cfg)))
			mustDo(t, os.Mkdir(filepath.Join(c.runtime, vmOf(cfg)+".seed"), 0o700)) // as one that dies while it makes a seed
			seen, ended := make(chan struct{}), make(chan vm.Exit, 1)
			go func() {
				var once sync.Once
				exit, _ := c.host.WaitEnd(deadline(t), vmOf(cfg), func(context.Context, hypervisor.Guest) time.Duration {
					once.Do(func() { close(seen) })
					return 0
				})
				ended <- exit
			}()
			<-seen

			p, next := c.plugin(t), cfg.Copy()
			next.ID = strings.Replace(cfg.ID, "5a6e215e", "6b7f326f", 1)
			events := p.events(t, cfg)
			p.start(t, next)
			if exit := <-ended; exit.Code != test.code {
				t.Errorf("the guest ended with %+v, want code %d", exit, test.code)
			}
			if e := nextEvent(t, events); !strings.Contains(e.Message, vmOf(cfg)) || !strings.Contains(e.Message, "earlier start") {
				t.Errorf("the event is %q, want it to tell of the VM that was left", e.Message)
			}
			mustDo(t, p.DestroyTask(next.ID, true))
			c.nothingLeft(t)
		})
	}
}

// What libvirt does not know has not ended for that: its state may have been restored,
// or be of a newer version than it reads. Disks are not removed for it.
func TestTaskWhoseVMIsGoneIsNotRecoveredAndItsDisksAreKept(t *testing.T) {
	c := newClient(t)
	first, cfg := c.plugin(t), emptyTask(t)
	handle := first.start(t, cfg)
	first.kill()
	mustDo(t, c.host.Undefine(t.Context(), vmOf(cfg)))
	mustDo(t, c.host.Kill(vmOf(cfg)))

	p := c.plugin(t)
	if err := p.RecoverTask(handle); err == nil || !strings.Contains(err.Error(), "is gone") {
		t.Errorf("the error is %v, want it to say that the VM is gone", err)
	}
	p.mustBeUnknown(t, cfg)
	// Nobody has seen its QEMU end.
	if left := c.left(t); len(left) != 2 || !strings.HasPrefix(left[0], "lease of ") || !isKeptDisk(left[1], cfg) {
		t.Errorf("on the host is left %q, want the lease, and the disk to be kept", left)
	}

	// Nomad hears no event of a task that it has not recovered.
	events, next := p.events(t, cfg), cfg.Copy()
	next.ID = strings.Replace(cfg.ID, "5a6e215e", "6b7f326f", 1)
	p.start(t, next)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "unknown to libvirt") || !strings.Contains(e.Message, vmOf(cfg)) {
		t.Errorf("the first event of the next start is %q, want it to say what became of the disks", e.Message)
	}
	if e := nextEvent(t, events); !strings.Contains(e.Message, "Started VM") {
		t.Errorf("the second event is %q, want it to be told once what became of the disks", e.Message)
	}
}

// isKeptDisk tells whether a volume is the first disk of a task's VM, which is kept.
func isKeptDisk(volume string, cfg *drivers.TaskConfig) bool {
	return strings.HasPrefix(volume, "kept-until-") && strings.Contains(volume, "+"+vmOf(cfg)+"-vda")
}

// A libvirt that comes back without a VM may have lost it, with its QEMU still there.
func TestDisksAreKeptOfAVMThatLibvirtComesBackWithout(t *testing.T) {
	for name, followed := range map[string]bool{"followed from its start": true, "not seen by this plugin": false} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), emptyTask(t)
			handle := p.start(t, cfg)
			if followed {
				eventually(t, "its journal is remembered", func() bool {
					_, is := p.Impl().(*Driver).machines.recall(vmOf(cfg))
					return is
				})
			}
			mustDo(t, c.host.Undefine(t.Context(), vmOf(cfg)))
			c.host.GoAway()
			if !followed {
				p.kill()
				p = c.plugin(t)
				mustDo(t, p.RecoverTask(handle))
			}
			mustDo(t, c.host.Kill(vmOf(cfg)))
			ended := p.wait(t, cfg)
			c.host.ComeBack()
			mustExit(t, ended, 137, 9, "another hand")

			events := p.events(t, cfg)
			mustDo(t, p.DestroyTask(cfg.ID, false))
			left := c.left(t)
			// Its guest may run still, with that address.
			if len(left) != 2 || !strings.HasPrefix(left[0], "lease of ") || !isKeptDisk(left[1], cfg) {
				t.Errorf("on the host is left %q, want the lease, and the disk to be kept", left)
			}
			if e := nextEvent(t, events); !strings.Contains(e.Message, "unknown to libvirt") {
				t.Errorf("the event is %q, want it to say what became of the disks", e.Message)
			}
		})
	}
}

func TestRecoveryOutlastsTheAbsenceOfTheHypervisor(t *testing.T) {
	c := newClient(t)
	for name, ends := range map[string]func(name string) error{"it ends later": nil, "it has ended meanwhile": c.host.PowerOff} {
		t.Run(name, func(t *testing.T) {
			first, cfg := c.plugin(t), emptyTask(t)
			handle := first.start(t, cfg)
			first.kill()
			c.host.GoAway()

			p := c.plugin(t)
			mustDo(t, p.RecoverTask(handle))
			p.mustBeIn(t, cfg, drivers.TaskStateRunning)
			ended := p.wait(t, cfg)
			if ends != nil {
				mustDo(t, ends(vmOf(cfg)))
				p.mustBeIn(t, cfg, drivers.TaskStateRunning) // nobody can tell
			}
			c.host.ComeBack()
			if ends == nil {
				mustDo(t, p.StopTask(cfg.ID, time.Minute, ""))
			}
			mustExit(t, ended, 0, 0, "")
			mustDo(t, p.DestroyTask(cfg.ID, false))
			c.nothingLeft(t)
		})
	}
}

func TestTaskThatRunsIsDestroyedByForceAlone(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	if err := p.DestroyTask(cfg.ID, false); err == nil {
		t.Error("a task that runs is destroyed, and nobody said force")
	}
	p.mustBeIn(t, cfg, drivers.TaskStateRunning)
	ended, err := p.Impl().WaitTask(deadline(t), cfg.ID) // by gRPC it might come too late
	mustDo(t, err)
	mustDo(t, p.DestroyTask(cfg.ID, true))
	mustExit(t, ended, 137, 9, "") // it was Nomad's own hand
	p.mustBeUnknown(t, cfg)
	c.nothingLeft(t)
}

func TestSignals(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	for _, step := range []struct {
		signal string
		does   hypervisor.Guest
	}{{"SIGSTOP", hypervisor.GuestOther}, {"SIGCONT", hypervisor.GuestRuns}} {
		mustDo(t, p.SignalTask(cfg.ID, step.signal))
		if noted, err := c.host.PauseNoted(t.Context(), vmOf(cfg)); err != nil || noted != (step.signal == "SIGSTOP") {
			t.Errorf("after %s it is noted that Nomad has the guest paused: %t, %v", step.signal, noted, err)
		}
		if guest, err := c.host.Guest(t.Context(), vmOf(cfg)); err != nil || guest != step.does {
			t.Errorf("after %s the guest is %d, %v, want %d", step.signal, guest, err, step.does)
		}
	}
	if err := p.SignalTask(cfg.ID, "SIGHUP"); err == nil || !strings.Contains(err.Error(), "SIGHUP") {
		t.Errorf("a signal that means nothing to a machine: %v, want an error that names it", err)
	}
	mustDo(t, p.SignalTask(cfg.ID, "SIGTERM"))
	mustExit(t, p.wait(t, cfg), 0, 0, "")
	mustDo(t, p.DestroyTask(cfg.ID, false))

	p.start(t, cfg)
	ended := p.wait(t, cfg)
	mustDo(t, p.SignalTask(cfg.ID, "SIGKILL"))
	mustExit(t, ended, 137, 9, "")
}

func TestStatsEndWithTheVM(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	ctx := deadline(t)
	usages, err := p.TaskStats(ctx, cfg.ID, leastInterval)
	mustDo(t, err)
	for i := range 3 {
		usage, is := <-usages
		if !is {
			t.Fatalf("there are no statistics after %d", i)
		}
		if got := vm.Bytes(usage.ResourceUsage.MemoryStats.RSS); got != 1024*vm.MiB {
			t.Errorf("the VM has %s of memory, want 1GiB", got)
		}
		// The guest in memory has one core in use, always.
		if got := usage.ResourceUsage.CpuStats.Percent; i > 0 && (got < 99 || got > 101) {
			t.Errorf("the VM uses %.1f%% of a core, want 100%%", got)
		}
	}
	mustDo(t, c.host.PowerOff(vmOf(cfg)))
	for range usages { // what was on its way
	}
	if ctx.Err() != nil {
		t.Error("the statistics do not end with the VM")
	}
}

func TestEventsTellWhatHappens(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	events := p.events(t, cfg)
	mustTell := func(parts ...string) {
		t.Helper()
		e := nextEvent(t, events)
		if e.TaskID != cfg.ID || e.AllocID != cfg.AllocID || e.TaskName != cfg.Name {
			t.Errorf("the event is of the task %s, want %s", e.TaskID, cfg.ID)
		}
		for _, part := range parts {
			if !strings.Contains(e.Message, part) {
				t.Errorf("the event is %q, want it to say %q", e.Message, part)
			}
		}
	}
	p.start(t, cfg)
	mustTell("Started VM "+vmOf(cfg), "192.168.122.2")
	mustDo(t, p.SignalTask(cfg.ID, "SIGSTOP"))
	mustTell("SIGSTOP", "paused")
	mustDo(t, p.SignalTask(cfg.ID, "SIGCONT"))
	mustTell("SIGCONT", "goes on")
	mustDo(t, p.StopTask(cfg.ID, time.Minute, ""))
	mustTell("shut down")
	mustDo(t, p.DestroyTask(cfg.ID, false))

	p.start(t, cfg)
	mustTell("Started VM")
	mustDo(t, c.host.Deafen(vmOf(cfg)))
	mustDo(t, p.StopTask(cfg.ID, time.Millisecond, ""))
	mustTell("did not shut down within 1ms", "destroyed", "kill_timeout")
}

func TestGuestWhoseDiskWasFullGoesOn(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	events := p.events(t, cfg)
	mustDo(t, c.host.Halt(vmOf(cfg), hypervisor.DiskError{Disk: "vda", Full: true}))
	eventually(t, "the guest goes on, there is room", func() bool {
		guest, err := c.host.Guest(t.Context(), vmOf(cfg))
		return err == nil && guest == hypervisor.GuestRuns
	})
	if e := nextEvent(t, events); !strings.Contains(e.Message, "Disk vda") || !strings.Contains(e.Message, "full") {
		t.Errorf("the event is %q, want it to say that disk vda was full", e.Message)
	}
}

func TestFingerprintFollowsTheHypervisor(t *testing.T) {
	c := newClient(t)
	p := c.plugin(t)
	reports, err := p.Fingerprint(deadline(t))
	mustDo(t, err)
	mustBe := func(want drivers.HealthState) {
		t.Helper()
		report, is := <-reports
		if !is || report.Err != nil || report.Health != want {
			t.Fatalf("the fingerprint is %+v, want the driver to be %s", report, want)
		}
	}
	mustBe(drivers.HealthStateHealthy)
	c.host.GoAway()
	mustBe(drivers.HealthStateUnhealthy)
	c.host.ComeBack()
	mustBe(drivers.HealthStateHealthy)
}

func TestDriverIsUnhealthyWithoutItsNetworkFilter(t *testing.T) {
	c := newClient(t)
	config := emptyConfig()
	config.NWFilter = "clean-traffic"
	for _, missing := range []error{nil, errBroken} {
		c.host.Fail("HasNWFilter", missing)
		want := drivers.HealthStateHealthy
		if missing != nil {
			want = drivers.HealthStateUnhealthy
		}
		store := storage.New(nil, nil, 0)
		if report, _ := fingerprint(t.Context(), config, c.host, store, 0); report.Health != want {
			t.Errorf("with the filter's error %v the driver is %s, want %s", missing, report.Health, want)
		}
	}
}

// Nomad is to place nothing where every start would fail.
func TestDriverIsUnhealthyWhereItIsNotRoot(t *testing.T) {
	c := newClient(t)
	for name, libvirt := range map[string]error{"let in by libvirt": nil, "kept out": errBroken} {
		t.Run(name, func(t *testing.T) {
			c.host.Fail("Versions", libvirt)
			report, _ := fingerprint(t.Context(), emptyConfig(), c.host, storage.New(nil, nil, 0), 1000)
			if report.Health != drivers.HealthStateUnhealthy || !strings.Contains(report.HealthDescription, "run the client as root") {
				t.Errorf("the driver is %s: %q, want it to be unhealthy and to say who is to run it", report.Health, report.HealthDescription)
			}
		})
	}
}

// Whom nobody has leased the address to may have it, who has a lease may be gone, and
// what is published at the address of another machine opens that to the world.
func TestAddressOfAnotherMachineIsRefused(t *testing.T) {
	const path = "config.network_interface[0].bridge.address: "
	for _, test := range []struct {
		name   string
		bridge Bridge
		answer string // the hardware address of who answers there; "" for nobody
		want   string // "" if it starts
	}{
		{"that answers on a libvirt network", Bridge{Name: "virbr0", Address: "192.168.122.50/24"}, otherMAC,
			path + "192.168.122.50 is another machine's, which answers there with the hardware address " + otherMAC},
		{"of nobody on a libvirt network", Bridge{Name: "virbr0", Address: "192.168.122.50/24", Ports: []string{"http"}}, "", ""},
		{"that answers on another bridge", Bridge{Name: "br-lan", Address: "192.0.2.5/24", Ports: []string{"http"}}, otherMAC,
			path + "192.0.2.5 is another machine's, which answers there with the hardware address " + otherMAC},
		{"of nobody on another bridge", Bridge{Name: "br-lan", Address: "192.0.2.5/24", Ports: []string{"http"}}, "", ""},
		{"behind another bridge", Bridge{Name: "br-lan", Address: "198.51.100.5/24", Ports: []string{"http"}}, "",
			path + "published ports would lead to 198.51.100.5, which the host does not reach over bridge br-lan without a router"},
		{"behind another bridge, without ports", Bridge{Name: "br-lan", Address: "198.51.100.5/24"}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), emptyTask(t)
			mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
				Disks:             []Disk{{Size: "1MiB"}},
				NetworkInterfaces: []NetworkInterface{{Bridge: &test.bridge}},
			}))
			if test.answer != "" {
				asked := netip.MustParsePrefix(test.bridge.Address).Addr()
				c.lan.change(func() { c.lan.owners = map[netip.Addr][]string{asked: {test.answer}} })
			}
			_, _, err := p.StartTask(cfg)
			switch {
			case test.want == "":
				mustDo(t, err)
				if got := len(c.ports.leads(vmOf(cfg))); got != len(test.bridge.Ports) {
					t.Errorf("%d ports are published, want %d", got, len(test.bridge.Ports))
				}
				mustDo(t, p.DestroyTask(cfg.ID, true))
			case err == nil || !strings.Contains(err.Error(), test.want):
				t.Errorf("the error is %v, want it to say %q", err, test.want)
			case c.ports.wasAsked():
				t.Error("its ports had been published before that was known")
			}
			c.nothingLeft(t)
		})
	}
}

func TestManyTasksComeAndGoAtOnce(t *testing.T) {
	c := newClient(t)
	p := c.plugin(t)
	const many = 16
	ended := make(chan error, many)
	for i := range many {
		cfg := emptyTask(t)
		cfg.ID = strings.Replace(cfg.ID, "5a6e215e", strings.Repeat("0123456789abcdef"[i:i+1], 8), 1)
		cfg.AllocID = cfg.AllocID[:len(cfg.AllocID)-1] + "0123456789abcdef"[i:i+1]
		go func() { ended <- liveOnce(p, cfg) }()
	}
	for range many {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	c.nothingLeft(t)
}

// liveOnce has a task live from its start to its end.
func liveOnce(p drivers.DriverPlugin, cfg *drivers.TaskConfig) error {
	if _, _, err := p.StartTask(cfg); err != nil {
		return err
	}
	results, err := p.WaitTask(context.Background(), cfg.ID)
	if err != nil {
		return err
	}
	usages, err := p.TaskStats(context.Background(), cfg.ID, time.Second)
	if err != nil {
		return err
	}
	if err := p.StopTask(cfg.ID, time.Minute, ""); err != nil {
		return err
	}
	for range usages { // they end with the VM
	}
	if result := <-results; result == nil || !result.Successful() {
		return fmt.Errorf("task %s ended with %+v, want success", cfg.ID, result)
	}
	return p.DestroyTask(cfg.ID, false)
}
