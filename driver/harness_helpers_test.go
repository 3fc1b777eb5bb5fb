package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/testutils"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/hypervisor/hypervisortest"
	"nomad-driver-virt/portmap"
	"nomad-driver-virt/vm"
)

// noted are things on a host that are known by a VM's name, in memory.
type noted struct {
	mu    sync.Mutex // guards the fields below
	names []string
	err   error // the answer to what adds one
}

func (n *noted) add(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.names = append(n.names, name)
	}
	return n.err
}

func (n *noted) remove(name string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names = slices.DeleteFunc(n.names, func(is string) bool { return is == name })
	return nil
}

func (n *noted) fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
}

func (n *noted) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.names)
}

// notedPorts publishes ports by taking note of what is published, and whose it is.
// Like those of the host it is asked one thing at a time.
type notedPorts struct {
	noted
	turn      sync.Mutex
	published map[string][]vm.Publication // by VM
	led       []string                    // where ports have led, until ever is asked
	closed    []string                    // bridges whose doors were to be closed
	held      []portmap.Held              // of each VM whose ports are put right
}

func (p *notedPorts) CloseDoors(_ context.Context, bridges []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = append(p.closed, bridges...)
	return nil
}

func (p *notedPorts) Publish(_ context.Context, name string, all []vm.Publication, _ func(string) bool) ([]portmap.Held, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	if !slices.Contains(p.all(), name) {
		p.note(name, nil)
	}
	_ = p.remove(name)
	err := p.add(name)
	if err == nil {
		p.note(name, all)
	}
	return nil, err
}

func (p *notedPorts) note(name string, all []vm.Publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.published == nil {
		p.published = make(map[string][]vm.Publication)
	}
	var now []vm.Publication
	for _, of := range all {
		if of.AsItIs {
			now = append(now, overlapping(p.published[name], of)...)
		} else {
			now = append(now, of)
		}
	}
	p.published[name] = now
	p.led = append(p.led, waysOf(now)...)
}

// overlapping are those with one of the ports of another.
func overlapping(all []vm.Publication, with vm.Publication) (some []vm.Publication) {
	for _, of := range all {
		if slices.ContainsFunc(of.Ports, func(p vm.Port) bool { return slices.Contains(with.Ports, p) }) {
			some = append(some, of)
		}
	}
	return some
}

// leads tells where the ports of a VM lead, "http to 192.0.2.5:8000 on br-lan" for one,
// in order.
func (p *notedPorts) leads(name string) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.names, name) {
		return nil
	}
	return waysOf(p.published[name])
}

// ever tells where ports have led since it was asked last.
func (p *notedPorts) ever() (led []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	led, p.led = p.led, nil
	return led
}

// doors are the bridges whose doors were to be closed.
func (p *notedPorts) doors() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.closed)
}

func waysOf(published []vm.Publication) (all []string) {
	for _, of := range published {
		for _, port := range of.Ports {
			all = append(all, fmt.Sprintf("%s to %s:%d on %s", port.Label, of.Guest, port.Guest, of.Bridge))
		}
	}
	slices.Sort(all)
	return all
}

// wasAsked tells whether anything was ever published.
func (p *notedPorts) wasAsked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.published) > 0
}

// Restore puts right what a test has taken away, or what is gone. One that was looking
// when its plugin was killed does nothing about what was taken away afterwards.
func (p *notedPorts) Restore(ctx context.Context, wanted func() []vm.Publication, gone func(string) bool) (restored []portmap.Restored, err error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	there, want := p.all(), make(map[string][]vm.Publication)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for _, w := range wanted() {
		want[w.VM] = append(want[w.VM], w)
	}
	for name, all := range want {
		if !slices.Contains(there, name) {
			restored = append(restored, portmap.Restored{VM: name, Held: p.held})
			p.note(name, nil)
			err = errors.Join(err, p.add(name))
		}
		p.note(name, all)
	}
	for _, name := range there {
		if gone(name) {
			restored = append(restored, portmap.Restored{VM: name})
			err = errors.Join(err, p.remove(name))
		}
	}
	return restored, err
}

func (p *notedPorts) Withdraw(_ context.Context, name string) error {
	p.turn.Lock()
	defer p.turn.Unlock()
	return p.remove(name)
}

// notedShares shows directories by taking note of whose they are.
type notedShares struct{ noted }

func (s *notedShares) Attach(shares []vm.Share) error {
	for _, share := range shares {
		if err := s.add(filepath.Base(filepath.Dir(share.Mount))); err != nil {
			return err
		}
	}
	return nil
}

func (s *notedShares) Detach(name string) error { return s.remove(name) }

// notedConsoles keeps nothing of the consoles of VMs but a note of whose they are.
type notedConsoles struct{ noted }

func (c *notedConsoles) Make(name string) error   { return c.add(name) }
func (c *notedConsoles) Remove(name string) error { return c.remove(name) }

func (c *notedConsoles) Follow(ctx context.Context, _, _ string, ended <-chan struct{}) error {
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return nil
}

// notedTaps are those that were taken off their bridges.
type notedTaps struct{ noted }

func (n *notedTaps) rejoin(tap, _ string) (bool, error) {
	if !slices.Contains(n.all(), tap) {
		return false, nil
	}
	return true, n.remove(tap)
}

// client is a host in memory, as plugins of Nomad's that follow one another see
// it.
type client struct {
	host     *hypervisortest.Memory
	libvirt  func(Libvirt) (libvirtHost, error) // host, unless a test stands between
	ports    notedPorts
	shares   notedShares
	consoles notedConsoles
	taps     notedTaps
	lan      lan
	changes  chan struct{} // of its network
	stopping atomic.Bool   // it is shutting down
	pool     string        // the directory of its pool
	runtime  string        // that of what is in memory
}

func newClient(t *testing.T) *client {
	t.Helper()
	// Nomad's harness has a log of its own, and sockets that go with the directory.
	t.Setenv("NOMAD_TEST_LOG_LEVEL", "off")
	t.Setenv("TMPDIR", t.TempDir())
	c := &client{host: hypervisortest.NewMemory(), changes: make(chan struct{}), pool: t.TempDir(), runtime: t.TempDir()}
	c.libvirt = func(Libvirt) (libvirtHost, error) { return c.host, nil }
	return c
}

// plugin is a driver that Nomad's harness serves by gRPC, as Nomad's client would
// have it.
type plugin struct {
	*testutils.DriverHarness
	kill context.CancelFunc // ends its process, as far as that does anything
}

// plugin begins a process of the driver. It ends with the test, if not before. The
// harness could be killed as well, but its two ends race with each other then.
func (c *client) plugin(t *testing.T) *plugin {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	p := &plugin{testutils.NewDriverHarness(t, c.driver(New(ctx, "0.0.0-test", hclog.NewNullLogger()))), cancel}
	mustDo(t, p.SetConfig(c.config(t)))
	return p
}

// driver puts a driver on the host.
func (c *client) driver(d *Driver) *Driver {
	links := []bridge.Link{{Name: "virbr0", IsBridge: true}, {Name: "br-lan", IsBridge: true}}
	d.around = around{
		libvirt:  c.libvirt,
		ports:    &c.ports,
		shares:   &c.shares,
		consoles: &c.consoles,
		links:    func() ([]bridge.Link, error) { return links, nil },
		rejoin:   c.taps.rejoin,
		lan:      &c.lan,
		release:  func(_ context.Context, l vm.Lease) error { return c.host.GiveBack(l) },
		watch:    func(context.Context) <-chan struct{} { return c.changes },
		runtime:  c.runtime,
		stopping: func(context.Context) bool { return c.stopping.Load() },
	}
	return d
}

// config is the plugin's configuration.
func (c *client) config(t *testing.T) *base.Config {
	t.Helper()
	config := Config{StoragePools: &StoragePools{Default: "pool", Directory: map[string]DirectoryPool{"pool": {Path: c.pool}}}}
	var encoded []byte
	mustDo(t, base.MsgPackEncode(&encoded, &config))
	return &base.Config{PluginConfig: encoded, AgentConfig: &base.AgentConfig{}}
}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// emptyTask is a task with an empty disk and one interface. The harness could
// make its directories, by mounts where it is root: they are made here.
func emptyTask(t *testing.T) *drivers.TaskConfig {
	t.Helper()
	cfg := nomadTask()
	cfg.AllocDir = t.TempDir()
	dir := cfg.TaskDir()
	for _, path := range []string{dir.SharedAllocDir, dir.LocalDir, dir.SecretsDir} {
		mustDo(t, os.MkdirAll(path, 0o755))
	}
	mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Disks:             []Disk{{Size: "1MiB"}},
		NetworkInterfaces: []NetworkInterface{{Bridge: &Bridge{Name: "virbr0", Ports: []string{"http"}}}},
	}))
	return cfg
}

// vmOf is the name of a task's VM.
func vmOf(cfg *drivers.TaskConfig) string { return vmName(cfg.Name, cfg.ID) }

// start starts a task, and returns its handle.
func (p *plugin) start(t *testing.T, cfg *drivers.TaskConfig) *drivers.TaskHandle {
	t.Helper()
	handle, _, err := p.StartTask(cfg)
	mustDo(t, err)
	return handle
}

// wait has somebody wait for the end of a task.
func (p *plugin) wait(t *testing.T, cfg *drivers.TaskConfig) <-chan *drivers.ExitResult {
	t.Helper()
	results, err := p.WaitTask(deadline(t), cfg.ID)
	mustDo(t, err)
	return results
}

// mustExit tells whether a task has ended as it is to, and why: in the words of
// the error; "" is for none.
func mustExit(t *testing.T, results <-chan *drivers.ExitResult, code, signal int, why string) {
	t.Helper()
	result, is := <-results // it ends with its context
	if !is {
		t.Fatal("no result was delivered")
	}
	said := ""
	if result.Err != nil {
		said = result.Err.Error()
	}
	if result.ExitCode != code || result.Signal != signal || !strings.Contains(said, why) || (why == "") != (said == "") {
		t.Errorf("the task ended with code %d, signal %d, error %q, want %d, %d, %q",
			result.ExitCode, result.Signal, said, code, signal, why)
	}
}

// mustBeIn tells whether a task is in a state.
func (p *plugin) mustBeIn(t *testing.T, cfg *drivers.TaskConfig, state drivers.TaskState) {
	t.Helper()
	status, err := p.InspectTask(cfg.ID)
	if err != nil || status.State != state {
		t.Errorf("the task is %+v, %v, want its state to be %s", status, err, state)
	}
}

// mustBeUnknown tells whether a task is not known. gRPC leaves of an error its
// words.
func (p *plugin) mustBeUnknown(t *testing.T, cfg *drivers.TaskConfig) {
	t.Helper()
	status, err := p.InspectTask(cfg.ID)
	if err == nil || !strings.Contains(err.Error(), drivers.ErrTaskNotFound.Error()) {
		t.Errorf("the task is %+v, %v, want %v", status, err, drivers.ErrTaskNotFound)
	}
}

// listening is an event that tells that somebody listens.
const listening = "somebody listens"

// events returns what is told from now on: by gRPC it takes some time until one
// is heard.
func (p *plugin) events(t *testing.T, cfg *drivers.TaskConfig) <-chan *drivers.TaskEvent {
	t.Helper()
	events, err := p.TaskEvents(deadline(t))
	mustDo(t, err)
	eventually(t, "an event is heard", func() bool {
		p.Impl().(*Driver).tell(cfg, listening)
		select {
		case <-events:
			return true
		default:
			return false
		}
	})
	return events
}

func nextEvent(t *testing.T, events <-chan *drivers.TaskEvent) *drivers.TaskEvent {
	t.Helper()
	for e := range events {
		if e.Message != listening {
			return e
		}
	}
	t.Fatal("no event was told")
	return nil
}

// left is all that there is on the host of VMs.
func (c *client) left(t *testing.T) []string {
	t.Helper()
	all := slices.Concat(c.host.Left(), c.ports.all(), c.shares.all(), c.consoles.all())
	for _, dir := range []string{c.runtime, c.pool} {
		files, err := os.ReadDir(dir)
		mustDo(t, err)
		for _, f := range files {
			all = append(all, f.Name())
		}
	}
	return all
}

func (c *client) nothingLeft(t *testing.T) {
	t.Helper()
	if left := c.left(t); len(left) != 0 {
		t.Errorf("on the host is left %q", left)
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for ctx := deadline(t); !holds(); {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", testDeadline, what)
		case <-look.C:
		}
	}
}

var errBroken = errors.New("it is broken")
