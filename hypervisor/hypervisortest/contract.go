package hypervisortest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Hypervisor is what the contract is about.
type Hypervisor interface {
	Define(ctx context.Context, s *vm.Spec) error
	Undefine(ctx context.Context, name string) error
	Journal(ctx context.Context, name string) (domxml.Journal, error)
	Owned(ctx context.Context, maybe func(name string) bool, by func(vm.Owner) bool) ([]string, error)

	Start(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	Suspend(ctx context.Context, name string) error
	Shutdown(ctx context.Context, name string) (hypervisor.Way, error)
	AskAgent(ctx context.Context, name string) error
	PressPowerButton(ctx context.Context, name string) error
	SetCPUShares(ctx context.Context, name string, shares uint64) error
	NoteStop(ctx context.Context, name string, by time.Time) error
	StopNoted(ctx context.Context, name string) (time.Time, error)
	Destroy(ctx context.Context, name string) error

	Running(ctx context.Context, name string) (bool, error)
	Guest(ctx context.Context, name string) (hypervisor.Guest, error)
	Stats(ctx context.Context) (map[string]hypervisor.Stats, error)
	WaitEnd(ctx context.Context, name string, look func(context.Context, hypervisor.Guest) time.Duration) (vm.Exit, error)

	EnsureDirectoryPool(ctx context.Context, name, path string) error
	CreateVolume(ctx context.Context, v vm.Volume, base *vm.Volume) error
	RemoveVolume(ctx context.Context, v vm.Volume) error
	Reserve(ctx context.Context, network, mac string, want netip.Addr) (addr netip.Addr, wait func() error, err error)
	Release(ctx context.Context, network, mac string) error
}

// Subject is a hypervisor that is tested, and what the test needs beside it.
type Subject struct {
	Hypervisor
	Accel vm.Accel // of VMs that it takes
	Arch  string

	// Kill destroys a VM by another hand.
	Kill func(name string) error
	// PowerOff has a guest turn itself off. nil: the guests boot nothing, and do
	// not hear that they are asked to shut down either.
	PowerOff func(name string) error
	// HasVolume tells whether the pool has a volume.
	HasVolume func(v vm.Volume) bool
	// Forget removes a pool when a test is over.
	Forget func(pool string) error
	// Network has DHCP. "": no address can be reserved.
	Network string
}

// TestHypervisor tells whether a hypervisor keeps the promises of
// hypervisor.Host. Nothing of the test is left behind.
func TestHypervisor(t *testing.T, s Subject) {
	for _, part := range []struct {
		name string
		test func(*testing.T, Subject)
	}{
		{"a domain is defined and undefined", testDefinition},
		{"the journal is what was defined", testJournal},
		{"a stop is noted", testStopNote},
		{"domains are found by their owner", testOwned},
		{"what is not there", testUnknown},
		{"a guest is started, paused and destroyed", testLife},
		{"the end of a VM is told", testEnds},
		{"the end of a VM that was undefined is told", testEndOfUndefined},
		{"what the guest does is shown", testLooks},
		{"who waits can give up", testGivingUp},
		{"VMs end each by itself", testMany},
		{"statistics are of those that run", testStats},
		{"volumes", testVolumes},
		{"pools", testPools},
		{"addresses", testAddresses},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, s) })
	}
}

// patience is how long an end may take to be told. It is far less than the time
// after which a hypervisor.Host looks without having been told anything.
const patience = 15 * time.Second

// bounded is the context of a call.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newPool returns a pool in a directory of its own.
func (s Subject) newPool(t *testing.T) (name, dir string) {
	t.Helper()
	dir = t.TempDir()
	name = "contract-" + strings.ReplaceAll(filepath.Base(filepath.Dir(dir))+filepath.Base(dir), "/", "-")
	must(t, s.EnsureDirectoryPool(bounded(t), name, dir))
	t.Cleanup(func() {
		if err := s.Forget(name); err != nil {
			t.Error(err)
		}
	})
	return name, dir
}

// spec is a VM with an empty disk, which is made. It goes when the test is over.
func (s Subject) spec(t *testing.T, name string) *vm.Spec {
	t.Helper()
	pool, dir := s.newPool(t)
	volume := func(name string) vm.Volume {
		return vm.Volume{Pool: pool, Name: name, Path: filepath.Join(dir, name), Format: "raw", Size: vm.MiB, Sparse: true}
	}
	spec := &vm.Spec{
		Name:  name,
		Owner: vm.Owner{Node: "node", Namespace: "default", Job: "job", Group: "group", Task: "task", Alloc: "alloc", TaskID: "alloc/task/" + name},
		Accel: s.Accel, CPUModel: vm.CPUMaximum, Arch: s.Arch, VCPUs: 1, Memory: 64 * vm.MiB,
		Disks:      []vm.Disk{{Volume: volume(name + "-vda.img"), Device: "vda", Bus: "virtio", Driver: "qemu", Kind: vm.HardDisk}},
		SeedVolume: volume(name + "-seed.iso"),
	}
	for _, v := range spec.Volumes() {
		must(t, s.CreateVolume(bounded(t), v, nil))
	}
	t.Cleanup(func() {
		ctx := context.Background() // the test's own has ended
		errs := []error{s.Destroy(ctx, name), s.Undefine(ctx, name)}
		for _, v := range spec.Volumes() {
			errs = append(errs, s.RemoveVolume(ctx, v))
		}
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	})
	return spec
}

// runs is the name of a VM whose guest runs.
func (s Subject) runs(t *testing.T, name string) string {
	t.Helper()
	must(t, s.Define(bounded(t), s.spec(t, name)))
	must(t, s.Start(bounded(t), name))
	must(t, s.Resume(bounded(t), name))
	return name
}

func (s Subject) mustBe(t *testing.T, when, name string, running bool, does hypervisor.Guest) {
	t.Helper()
	if got, err := s.Running(bounded(t), name); err != nil || got != running {
		t.Errorf("%s, it runs: %t, %v, want %t", when, got, err, running)
	}
	if got, err := s.Guest(bounded(t), name); err != nil || got != does {
		t.Errorf("%s, the guest is %d, %v, want %d", when, got, err, does)
	}
}

func mustBeUnknown(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, hypervisor.ErrNoDomain) {
		t.Errorf("%s: %v, want %v", what, err, hypervisor.ErrNoDomain)
	}
}

func mustFail(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s is no error, want one", what)
	}
}

func testDefinition(t *testing.T, s Subject) {
	spec := s.spec(t, "contract-defined")
	must(t, s.Define(bounded(t), spec))
	s.mustBe(t, "defined", spec.Name, false, hypervisor.GuestOther)
	mustFail(t, "to define it again", s.Define(bounded(t), spec))
	for _, call := range []func(context.Context, string) error{s.Resume, s.Suspend, s.shutdown, s.PressPowerButton} {
		mustFail(t, "what is for a VM that runs", call(bounded(t), spec.Name))
	}
	must(t, s.Destroy(bounded(t), spec.Name)) // it does not run
	for range 2 {
		must(t, s.Undefine(bounded(t), spec.Name))
	}
	_, err := s.Running(bounded(t), spec.Name)
	mustBeUnknown(t, "whether it runs", err)
	must(t, s.Define(bounded(t), spec)) // the name is free again
}

// shutdown is Shutdown of guests without an agent.
func (s Subject) shutdown(ctx context.Context, name string) error {
	way, err := s.Shutdown(ctx, name)
	if err == nil && way != hypervisor.ByPowerButton {
		err = errors.New("it is said that its agent was asked, and it has none")
	}
	return err
}

func testStopNote(t *testing.T, s Subject) {
	name := s.runs(t, "contract-stop")
	by, err := s.StopNoted(bounded(t), name)
	must(t, err)
	if !by.IsZero() {
		t.Errorf("a VM that nobody stops is to have ended by %s", by)
	}
	want := time.Now().Add(time.Minute)
	must(t, s.NoteStop(bounded(t), name, want))
	by, err = s.StopNoted(bounded(t), name)
	must(t, err)
	if !by.Equal(want) {
		t.Errorf("it is to have ended by %s, want %s", by, want)
	}
	must(t, s.SetCPUShares(bounded(t), name, 1024))
}

func testJournal(t *testing.T, s Subject) {
	spec := s.spec(t, "contract-journal")
	hostile := `it's <a> "b" & späßig 日本 🐧`
	spec.Owner.Job, spec.Owner.Group, spec.Owner.Task = hostile, hostile, hostile
	spec.Interfaces = []vm.Interface{{Bridge: "virbr0", Network: "default", MAC: "52:54:00:12:34:56"}}
	spec.Disks[0].Volume.Keep = time.Hour
	must(t, s.Define(bounded(t), spec))
	got, err := s.Journal(bounded(t), spec.Name)
	must(t, err)
	disk, seed := spec.Disks[0].Volume, spec.SeedVolume
	noted := vm.Volume{Pool: disk.Pool, Name: disk.Name, Path: disk.Path, Keep: time.Hour}
	want := domxml.Journal{
		Owner:      spec.Owner,
		Volumes:    []vm.Volume{noted, {Pool: seed.Pool, Name: seed.Name, Path: seed.Path}},
		Disks:      map[string]vm.Volume{"vda": noted},
		Interfaces: spec.Interfaces,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("the journal (-want +got):\n%s", diff)
	}
}

func testOwned(t *testing.T, s Subject) {
	for name, change := range map[string]func(*vm.Owner){
		"contract-owned-1":     func(*vm.Owner) {},
		"contract-owned-2":     func(o *vm.Owner) { o.TaskID = "another" },
		"contract-owned-alloc": func(o *vm.Owner) { o.Alloc = "another" },
		"contract-no-name":     func(*vm.Owner) {},
	} {
		spec := s.spec(t, name)
		change(&spec.Owner)
		must(t, s.Define(bounded(t), spec))
	}
	got, err := s.Owned(bounded(t),
		func(name string) bool { return strings.HasPrefix(name, "contract-owned-") },
		func(o vm.Owner) bool { return o.Alloc == "alloc" && o.Task == "task" })
	must(t, err)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"contract-owned-1", "contract-owned-2"}, got); diff != "" {
		t.Errorf("those of the owner (-want +got):\n%s", diff)
	}
}

func testUnknown(t *testing.T, s Subject) {
	const name = "contract-unknown"
	ctx := bounded(t)
	_, running := s.Running(ctx, name)
	_, guest := s.Guest(ctx, name)
	_, journal := s.Journal(ctx, name)
	for what, err := range map[string]error{
		"Running": running, "Guest": guest, "Journal": journal,
		"Start": s.Start(ctx, name), "Resume": s.Resume(ctx, name), "Suspend": s.Suspend(ctx, name), "Shutdown": s.shutdown(ctx, name),
		"AskAgent": s.AskAgent(ctx, name), "PressPowerButton": s.PressPowerButton(ctx, name), "NoteStop": s.NoteStop(ctx, name, time.Now()), "SetCPUShares": s.SetCPUShares(ctx, name, 1024),
	} {
		mustBeUnknown(t, what, err)
	}
	must(t, s.Destroy(ctx, name))
	must(t, s.Undefine(ctx, name))
	exit, err := s.WaitEnd(ctx, name, ignore)
	must(t, err)
	mustEndAs(t, exit, killed)
}

func testLife(t *testing.T, s Subject) {
	spec := s.spec(t, "contract-life")
	must(t, s.Define(bounded(t), spec))
	for range 2 { // a VM can be started again
		must(t, s.Start(bounded(t), spec.Name))
		s.mustBe(t, "started", spec.Name, true, hypervisor.GuestOther)
		mustFail(t, "to start it again", s.Start(bounded(t), spec.Name))
		must(t, s.Resume(bounded(t), spec.Name))
		s.mustBe(t, "resumed", spec.Name, true, hypervisor.GuestRuns)
		mustFail(t, "to resume a guest that runs", s.Resume(bounded(t), spec.Name))
		must(t, s.Suspend(bounded(t), spec.Name))
		s.mustBe(t, "suspended", spec.Name, true, hypervisor.GuestOther)
		must(t, s.Resume(bounded(t), spec.Name))
		s.mustBe(t, "resumed again", spec.Name, true, hypervisor.GuestRuns)
		for range 2 {
			must(t, s.Destroy(bounded(t), spec.Name))
			s.mustBe(t, "destroyed", spec.Name, false, hypervisor.GuestOther)
		}
	}
}

// ending is how a VM ends.
type ending struct {
	code, signal int
	explained    bool
}

var (
	killed = ending{137, 9, true}
	off    = ending{0, 0, false}
)

func mustEndAs(t *testing.T, exit vm.Exit, want ending) {
	t.Helper()
	if got := (ending{exit.Code, exit.Signal, exit.Err != nil}); got != want {
		t.Errorf("it ended with code %d, signal %d, %v, want code %d, signal %d, an explanation: %t",
			exit.Code, exit.Signal, exit.Err, want.code, want.signal, want.explained)
	}
	if exit.EndedAt.IsZero() {
		t.Error("it ended at no time")
	}
}

// ignore leaves a guest to itself.
func ignore(context.Context, hypervisor.Guest) time.Duration { return 0 }

// waiting has somebody wait for the end of a VM, and returns when it has been
// seen to run.
func (s Subject) waiting(t *testing.T, name string) (ended <-chan vm.Exit) {
	t.Helper()
	exits, seen := make(chan vm.Exit, 1), make(chan struct{})
	look := sync.OnceFunc(func() { close(seen) })
	ctx := bounded(t)
	go func() {
		defer close(exits)
		exit, err := s.WaitEnd(ctx, name, func(context.Context, hypervisor.Guest) time.Duration {
			look()
			return 0
		})
		if err == nil {
			exits <- exit
		}
	}()
	select {
	case <-seen:
	case <-ctx.Done():
		t.Fatalf("that %s runs is not shown within %s", name, patience)
	}
	return exits
}

func mustEnd(t *testing.T, ended <-chan vm.Exit, want ending) {
	t.Helper()
	exit, is := <-ended
	if !is {
		t.Fatalf("the end is not told within %s", patience)
	}
	mustEndAs(t, exit, want)
}

func testEnds(t *testing.T, s Subject) {
	type cause struct {
		name string
		end  func(name string) error
		want ending
	}
	causes := []cause{
		{"destroyed", func(name string) error { return s.Destroy(t.Context(), name) }, killed},
		{"destroyed by another hand", s.Kill, killed},
	}
	if s.PowerOff != nil {
		causes = append(causes,
			cause{"turned off by its guest", s.PowerOff, off},
			cause{"asked to shut down", func(name string) error { return s.shutdown(t.Context(), name) }, off},
			cause{"with its power button pressed", func(name string) error { return s.PressPowerButton(t.Context(), name) }, off})
	}
	for _, c := range causes {
		t.Run(c.name, func(t *testing.T) {
			name := s.runs(t, "contract-end")
			ended := s.waiting(t, name)
			must(t, c.end(name))
			mustEnd(t, ended, c.want)
			// Asked once it is over, it says the same.
			exit, err := s.WaitEnd(bounded(t), name, ignore)
			must(t, err)
			mustEndAs(t, exit, c.want)
		})
	}
}

func testEndOfUndefined(t *testing.T, s Subject) {
	name := s.runs(t, "contract-forgotten")
	ended := s.waiting(t, name)
	must(t, s.Undefine(bounded(t), name))
	s.mustBe(t, "undefined while it runs", name, true, hypervisor.GuestRuns)
	if _, err := s.Journal(bounded(t), name); err != nil {
		t.Errorf("the journal of a VM that runs and was undefined: %v, want it to be there still", err)
	}
	must(t, s.Kill(name))
	mustEnd(t, ended, killed)
	_, err := s.Journal(bounded(t), name)
	mustBeUnknown(t, "the journal of a VM that has ended and was undefined", err)
}

func testLooks(t *testing.T, s Subject) {
	spec := s.spec(t, "contract-looks")
	must(t, s.Define(bounded(t), spec))
	must(t, s.Start(bounded(t), spec.Name))
	shown := make(chan hypervisor.Guest)
	ctx := bounded(t)
	ended := make(chan error, 1)
	go func() {
		_, err := s.WaitEnd(ctx, spec.Name, func(ctx context.Context, guest hypervisor.Guest) time.Duration {
			select {
			case shown <- guest:
			case <-ctx.Done():
			}
			return 0
		})
		ended <- err
	}()
	mustShow := func(want hypervisor.Guest) {
		t.Helper()
		for got := hypervisor.Guest(-1); got != want; { // the same may be shown several times
			select {
			case got = <-shown:
			case <-ctx.Done():
				t.Fatalf("a guest that is %d is not shown within %s", want, patience)
			}
		}
	}
	mustShow(hypervisor.GuestOther)
	must(t, s.Resume(bounded(t), spec.Name))
	mustShow(hypervisor.GuestRuns)
	must(t, s.Suspend(bounded(t), spec.Name))
	mustShow(hypervisor.GuestOther)
	must(t, s.Destroy(bounded(t), spec.Name))
	for {
		select {
		case <-shown: // from before
		case err := <-ended:
			must(t, err)
			return
		}
	}
}

func testGivingUp(t *testing.T, s Subject) {
	name := s.runs(t, "contract-context")
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	_, err := s.WaitEnd(ctx, name, func(context.Context, hypervisor.Guest) time.Duration {
		if looks++; looks == 3 { // there is no news: it looks because it was asked to
			cancel()
		}
		return time.Millisecond
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("who gives up waiting gets %v, want %v", err, context.Canceled)
	}
	s.mustBe(t, "when nobody waits any more", name, true, hypervisor.GuestRuns)
}

func testMany(t *testing.T, s Subject) {
	const many = 4
	var all [many]<-chan vm.Exit
	var names [many]string
	for i := range many {
		names[i] = s.runs(t, fmt.Sprintf("contract-many-%d", i))
		all[i] = s.waiting(t, names[i])
	}
	for i := range many {
		must(t, s.Kill(names[i]))
		mustEnd(t, all[i], killed)
		for k := i + 1; k < many; k++ {
			select {
			case exit := <-all[k]:
				t.Fatalf("%s is told to have ended, %+v, and %s has", names[k], exit, names[i])
			default:
			}
		}
	}
}

func testStats(t *testing.T, s Subject) {
	idle := s.spec(t, "contract-stats-off")
	must(t, s.Define(bounded(t), idle))
	one, other := s.runs(t, "contract-stats-1"), s.runs(t, "contract-stats-2")
	before := time.Now()
	stats, err := s.Stats(bounded(t))
	must(t, err)
	for name, want := range map[string]bool{one: true, other: true, idle.Name: false} {
		got, is := stats[name]
		if is != want {
			t.Errorf("there are statistics of %s: %t, want %t", name, is, want)
		}
		if is && got.At.Before(before) {
			t.Errorf("the statistics of %s are from %s, before they were asked for", name, got.At)
		}
	}
}

func testVolumes(t *testing.T, s Subject) {
	pool, dir := s.newPool(t)
	v := vm.Volume{Pool: pool, Name: "volume.img", Path: filepath.Join(dir, "volume.img"), Format: "raw", Size: vm.MiB, Sparse: true}
	must(t, s.CreateVolume(bounded(t), v, nil))
	if !s.HasVolume(v) {
		t.Error("the volume is not there")
	}
	mustFail(t, "to create what is there", s.CreateVolume(bounded(t), v, nil))
	for range 2 {
		must(t, s.RemoveVolume(bounded(t), v))
		if s.HasVolume(v) {
			t.Error("the volume is there still")
		}
	}
	v.Pool = "contract-no-pool"
	mustFail(t, "to create a volume in a pool that there is not", s.CreateVolume(bounded(t), v, nil))
	must(t, s.RemoveVolume(bounded(t), v))
}

func testPools(t *testing.T, s Subject) {
	pool, dir := s.newPool(t)
	must(t, s.EnsureDirectoryPool(bounded(t), pool, dir+"/"))
	err := s.EnsureDirectoryPool(bounded(t), pool, t.TempDir())
	mustFail(t, "a pool that is elsewhere", err)
	if err != nil && (!strings.Contains(err.Error(), pool) || !strings.Contains(err.Error(), dir)) {
		t.Errorf("the error is %v, want it to name the pool %s and its directory %s", err, pool, dir)
	}
}

func testAddresses(t *testing.T, s Subject) {
	if s.Network == "" {
		return // the hypervisor cannot be asked
	}
	const one, other = "52:54:00:77:00:01", "52:54:00:77:00:02"
	reserve := func(mac string) netip.Addr {
		t.Helper()
		addr, wait, err := s.Reserve(bounded(t), s.Network, mac, netip.Addr{})
		must(t, err)
		must(t, wait())
		t.Cleanup(func() {
			if err := s.Release(context.Background(), s.Network, mac); err != nil {
				t.Error(err)
			}
		})
		return addr
	}
	first := reserve(one)
	if second := reserve(other); second == first {
		t.Errorf("%s is reserved twice", first)
	}
	if again := reserve(strings.ToUpper(one)); again != first {
		t.Errorf("asked again, %s is reserved, want %s as before", again, first)
	}
	for range 2 {
		must(t, s.Release(bounded(t), s.Network, one))
	}
	if back := reserve(one); back != first {
		t.Errorf("reserved again, it is %s, want %s, which nobody has taken", back, first)
	}
	_, _, err := s.Reserve(bounded(t), "contract-none", one, netip.Addr{})
	mustFail(t, "an address of a network that there is not", err)
	must(t, s.Release(bounded(t), "contract-none", one))
}
