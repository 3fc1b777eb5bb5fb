package hypervisortest

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Hypervisor is what the contract is about.
type Hypervisor interface {
	Define(ctx context.Context, s *vm.Spec) error
	Undefine(ctx context.Context, name string) error
	Journal(ctx context.Context, name string) (domxml.Journal, error)
	Owned(ctx context.Context, maybe func(name string) bool, by func(vm.Owner) bool) (owned []string, unreadable map[string]error, err error)
	Interfaces(ctx context.Context) ([]domxml.Interface, error)

	Start(ctx context.Context, name string) error
	Resume(ctx context.Context, name string) error
	Suspend(ctx context.Context, name string) error
	Shutdown(ctx context.Context, name string) (hypervisor.Way, error)
	AskAgent(ctx context.Context, name string) error
	AgentAddresses(ctx context.Context, name string) (map[string][]netip.Addr, error)
	PressPowerButton(ctx context.Context, name string) error
	SetCPUShares(ctx context.Context, name string, shares uint64) error
	NoteStop(ctx context.Context, name string, by time.Time) error
	StopNoted(ctx context.Context, name string) (time.Time, error)
	NotePause(ctx context.Context, name string, paused bool) error
	PauseNoted(ctx context.Context, name string) (bool, error)
	NoteAddresses(ctx context.Context, name string, found map[string]netip.Addr) error
	AddressesNoted(ctx context.Context, name string) (map[string]netip.Addr, error)
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
	Leases(ctx context.Context, network, mac string) ([]vm.Lease, error)
	Facts(ctx context.Context, arch, machine string) (hypervisor.Facts, error)
}

// Subject is a hypervisor that is tested, and what the test needs beside it.
type Subject struct {
	Hypervisor
	Accel vm.Accel // of VMs that it takes
	Arch  string

	// Kill destroys a VM by another hand.
	Kill func(name string) error
	// Edit changes the metadata of a VM by another hand.
	Edit func(name, metadata string) error
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
		{"a pause is noted", testPauseNote},
		{"addresses are noted", testAddressNote},
		{"domains are found by their owner", testOwned},
		{"the interfaces of all domains are listed", testInterfaces},
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
		Disks:      []vm.Disk{{Volume: volume(name + "-vda.img"), Device: "vda", Bus: "virtio", Kind: vm.HardDisk}},
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
