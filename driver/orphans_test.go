package driver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

func TestOrphanHasSomeTimeForItsTaskToTurnUp(t *testing.T) {
	began := time.Now()
	seen := make(orphans)
	for _, step := range []struct {
		at          time.Duration
		names       string
		fresh, over string
	}{
		{0, "", "", ""},
		{10 * time.Second, "a b", "a b", ""},
		{20 * time.Second, "a b", "", ""},
		{69 * time.Second, "a", "", ""}, // b has a task now
		{70 * time.Second, "a b", "b", "a"},
		{75 * time.Second, "a b", "", "a"}, // it could not be removed
		{80 * time.Second, "b", "", ""},
		{130 * time.Second, "b", "", "b"},
	} {
		fresh, over := seen.look(began.Add(step.at), strings.Fields(step.names), time.Minute)
		for what, got := range map[string][2][]string{"seen first": {strings.Fields(step.fresh), fresh}, "removed": {strings.Fields(step.over), over}} {
			if diff := cmp.Diff(got[0], got[1], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after %s, those that are %s (-want +got):\n%s", step.at, what, diff)
			}
		}
	}
}

func TestVMOfATaskIsNoOrphan(t *testing.T) {
	d, _ := newDriver(t)
	d.tasks["id"] = newTask(nil, "runs-5a6e215e", time.Now(), nil)
	first, second := d.starts("starts-5a6e215e", "node"), d.starts("starts-5a6e215e", "node")
	for _, step := range []struct {
		done   func()
		starts bool
	}{{func() {}, true}, {first, true}, {second, false}} {
		step.done()
		want := map[string]bool{"runs-5a6e215e": true, "starts-5a6e215e": step.starts, "other-5a6e215e": false}
		for name, known := range want {
			if got := d.knows(name); got != known {
				t.Errorf("%s belongs to a task: %t, want %t", name, got, known)
			}
		}
	}
	if got := d.ownNode(); got != "" {
		t.Errorf("the node is %q, and Nomad does not use the plugin", got)
	}
	done := d.used()
	if got := d.ownNode(); got != "node" {
		t.Errorf("the node is %q, want that of the task", got)
	}
	done()
	if got := d.ownNode(); got != "" {
		t.Errorf("the node is %q, and Nomad does not use the plugin any more", got)
	}
}

// logText is what a driver logs.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newSweeper returns a driver of the node "node", which Nomad uses.
func newSweeper(t *testing.T, c *client, log io.Writer) *Driver {
	t.Helper()
	d := c.driver(New(t.Context(), "0.0.0-test", hclog.New(&hclog.LoggerOptions{Output: log})))
	mustDo(t, d.SetConfig(c.config(t)))
	d.used()
	d.starts("other-0dd00001", "node")()
	return d
}

// Somebody has edited what is written of a VM, or a later version of the driver has
// written it.
func TestVMThatCannotBeReadHoldsUpNoOther(t *testing.T) {
	c, log := newClient(t), new(logText)
	d := newSweeper(t, c, log)
	owner := vm.Owner{Node: "node", Alloc: "alloc", Task: "web"}
	define := func(name string) {
		mustDo(t, c.host.Define(t.Context(), &vm.Spec{
			Name: name, Owner: owner, Accel: vm.TCG, Arch: "x86_64", CPUModel: vm.CPUMaximum,
			SeedVolume: vm.Volume{Pool: "pool", Name: name + ".iso", Path: filepath.Join(c.pool, name+".iso"), Format: "raw"},
		}))
	}
	define("web-0dd00001")
	define("web-0dd00002")
	define("web-0dd00003")
	mustDo(t, c.host.Edit("web-0dd00001", "<vm/"))
	mustDo(t, c.host.Edit("web-0dd00002", "<vm/"))

	// A start of the task removes what was left of an earlier one.
	mustDo(t, d.machines.removeForgotten(t.Context(), owner, d.logged))
	if got, want := c.host.Left(), []string{"web-0dd00001", "web-0dd00002"}; !slices.Equal(got, want) {
		t.Fatalf("when what is left of the task was removed, %q is there, want %q", got, want)
	}

	define("orphan-0dd00001")
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.removeOrphans(ctx, d.machines, 20*time.Millisecond)
	}()
	eventually(t, "the orphan is removed", func() bool { return !slices.Contains(c.host.Left(), "orphan-0dd00001") })
	end()
	<-ended
	if got, want := c.host.Left(), []string{"web-0dd00001", "web-0dd00002"}; !slices.Equal(got, want) {
		t.Errorf("%q is there, want %q, which cannot be read", got, want)
	}
	for _, name := range c.host.Left() {
		if n := strings.Count(log.String(), "vm="+name); n != 1 {
			t.Errorf("%s is named %d times, want once in:\n%s", name, n, log)
		}
	}
}

func TestOrphansThatCannotBeLookedForAreToldOf(t *testing.T) {
	c, log := newClient(t), new(logText)
	d := newSweeper(t, c, log)
	c.host.Fail("Owned", errors.New("out of memory"))
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.removeOrphans(ctx, d.machines, time.Millisecond)
	}()
	eventually(t, "it is told", func() bool { return strings.Contains(log.String(), "out of memory") })
	end()
	<-ended
}

// heldPool is a pool that has some volumes.
type heldPool struct {
	storage.Pool
	names map[string]bool
	stuck string // the volume that cannot be removed or renamed
	away  bool   // what it has cannot be seen
}

func (p *heldPool) Exists(_ context.Context, name string) (bool, error) {
	if p.away {
		return false, storage.ErrAway
	}
	return p.names[name], nil
}

func (p *heldPool) Remove(_ context.Context, v vm.Volume) error {
	if v.Name == p.stuck {
		return errors.New("stuck")
	}
	delete(p.names, v.Name)
	return nil
}

func (p *heldPool) Rename(ctx context.Context, v vm.Volume, to string) error {
	err := p.Remove(ctx, v)
	if err == nil {
		p.names[to] = true
	}
	return err
}

// What becomes of the disks of a VM is decided by what its guest may have written.
func TestDisksAreKeptIfAGuestMayHaveWrittenToThem(t *testing.T) {
	volume := func(name string, keep time.Duration) vm.Volume {
		return vm.Volume{Pool: "pool", Name: name, Keep: keep}
	}
	vda, vdb := volume("vda", time.Hour), volume("vdb", 0)
	j := domxml.Journal{
		Volumes: []vm.Volume{vda, vdb, volume("vda-base", 0), volume("vm"+seedSuffix, 0)},
		Disks:   map[string]vm.Volume{"vda": vda, "vdb": vdb},
	}
	const untouched = "vda vda-base vdb vm" + seedSuffix
	until := regexp.MustCompile(`kept-until-\S+\+`)
	for _, test := range []struct {
		end    end
		seeded bool
		stuck  string
		left   string
		away   bool
	}{
		{end: ended, seeded: true, left: "kept-vda"},
		{end: ended, left: "kept-vda"}, // the last try has removed the seed
		{end: undone, seeded: true},
		{end: undone},
		{end: forgotten, seeded: true, left: "kept-vda"},
		{end: forgotten},
		{end: orphaned, seeded: true, left: "kept-vda kept-vdb"},
		{end: orphaned},
		{end: lost, seeded: true, left: "kept-vda kept-vdb"},
		{end: lost, left: "kept-vda kept-vdb"}, // the last try has removed the seed
		{end: forgotten, left: "kept-vda", away: true},
		// As long as anything is left, the next try has to know that a guest has run.
		{end: forgotten, seeded: true, stuck: "vda", left: "vda vm" + seedSuffix},
		{end: undone, seeded: true, stuck: "vdb", left: "vdb vm" + seedSuffix},
	} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			p := &heldPool{names: make(map[string]bool), stuck: test.stuck, away: test.away}
			for name := range strings.FieldsSeq(untouched) {
				p.names[name] = test.seeded || !strings.HasSuffix(name, seedSuffix)
			}
			m := &machines{store: storage.New(map[string]storage.Pool{"pool": p}, nil, 0)}
			if err := m.dispose(t.Context(), j, test.end); (err != nil) != (test.stuck != "") {
				t.Errorf("the error is %v", err)
			}
			maps.DeleteFunc(p.names, func(_ string, is bool) bool { return !is })
			left := until.ReplaceAllString(strings.Join(slices.Sorted(maps.Keys(p.names)), " "), "kept-")
			if left != test.left {
				t.Errorf("what is left is %q, want %q", left, test.left)
			}
		})
	}
}
