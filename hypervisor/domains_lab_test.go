//go:build lab

package hypervisor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

func TestDomainLife(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-life")
	ctx := t.Context()

	must(t, h.Define(ctx, s))
	mustRun(t, h, s.Name, false)
	// A name is one VM's: what an earlier start left has to be removed first.
	mustSay(t, h.Define(ctx, s), "defining domain "+s.Name, "already exists")
	must(t, h.Destroy(ctx, s.Name)) // it does not run
	must(t, h.Start(ctx, s.Name))
	mustRun(t, h, s.Name, true)
	mustBe(t, s.Name, "paused")
	must(t, h.Resume(ctx, s.Name))
	mustBe(t, s.Name, "running")
	mustSay(t, h.Start(ctx, s.Name), "starting domain "+s.Name, "already running")
	if way, err := h.Shutdown(ctx, s.Name); err != nil || way != ByPowerButton {
		t.Fatalf("a guest without an agent: %v, %v, want its power button pressed", way, err)
	}
	mustRun(t, h, s.Name, true)
	for range 2 {
		must(t, h.Destroy(ctx, s.Name))
		mustRun(t, h, s.Name, false)
	}
	for range 2 {
		must(t, h.Undefine(ctx, s.Name))
	}
	if names := virsh(t, "list", "--all", "--name"); strings.Contains(names, s.Name) {
		t.Errorf("it is there still: %s", names)
	}
}

func TestStopIsNotedInTheDomain(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-stop")
	if by, err := h.StopNoted(t.Context(), s.Name); err != nil || !by.IsZero() {
		t.Errorf("before the stop: %s, %v, want nothing", by, err)
	}
	want := time.Now().Add(time.Minute)
	must(t, h.NoteStop(t.Context(), s.Name, want))
	next := connected(t, system)
	if by, err := next.StopNoted(t.Context(), s.Name); err != nil || !by.Equal(want) {
		t.Errorf("noted is %s, %v, want %s", by, err, want)
	}
	if j, err := h.Journal(t.Context(), s.Name); err != nil || j.Owner != s.Owner {
		t.Errorf("the journal is %v, %v, want what it was", j, err)
	}
}

func TestCPUSharesAreSetWhereLibvirtCan(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-shares")
	shares := func() string {
		t.Helper()
		for line := range strings.Lines(virsh(t, "schedinfo", s.Name)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "cpu_shares" {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	was := shares()
	must(t, h.SetCPUShares(t.Context(), s.Name, 0))
	if got := shares(); got != was {
		t.Errorf("none are asked for, and there are %s, want %s as before", got, was)
	}
	want := uint64(500)
	if isUnified(cgroups) {
		want = weightOf(want)
	}
	must(t, h.SetCPUShares(t.Context(), s.Name, 500))
	if got := shares(); got != fmt.Sprint(want) {
		t.Errorf("500 are asked for, and there are %s, want %d", got, want)
	}
	// It does not run: libvirt refuses, and the start does not fail for that.
	must(t, h.Destroy(t.Context(), s.Name))
	must(t, h.SetCPUShares(t.Context(), s.Name, 500))
}

func TestUnknownDomain(t *testing.T) {
	h := connected(t, system)
	const name = "hyp-unknown"
	_, running := h.Running(t.Context(), name)
	_, journal := h.Journal(t.Context(), name)
	for call, err := range map[string]error{
		"Running":          running,
		"Journal":          journal,
		"Start":            h.Start(t.Context(), name),
		"Resume":           h.Resume(t.Context(), name),
		"Shutdown":         func() error { _, err := h.Shutdown(t.Context(), name); return err }(),
		"PressPowerButton": h.PressPowerButton(t.Context(), name),
	} {
		if !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s: %v, want %v", call, err, ErrNoDomain)
		}
		mustSay(t, err, name)
	}
	must(t, h.Destroy(t.Context(), name))
	must(t, h.Undefine(t.Context(), name))
}

func TestJournalComesBackFromLibvirt(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-journal")
	hostile := `it's <a> "b" & späßig 日本 🐧`
	s.Owner.Job, s.Owner.Group, s.Owner.Task = hostile, hostile, hostile
	s.Interfaces = append(s.Interfaces, vm.Interface{Bridge: "br-lan", MAC: "52:54:00:12:34:57"})
	must(t, h.Define(t.Context(), s))

	got, err := h.Journal(t.Context(), s.Name)
	must(t, err)
	want := domxml.Journal{Owner: s.Owner, Disks: make(map[string]vm.Volume)}
	for _, v := range s.Volumes() {
		noted := vm.Volume{Pool: v.Pool, Name: v.Name, Path: v.Path}
		want.Volumes = append(want.Volumes, noted)
		for _, d := range s.Disks {
			if d.Volume.Name == v.Name {
				want.Disks[d.Device] = noted
			}
		}
	}
	for _, i := range s.Interfaces {
		want.Interfaces = append(want.Interfaces, vm.Interface{Network: i.Network, MAC: i.MAC, Bridge: i.Bridge})
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// defineForeign defines a domain that is somebody else's.
func defineForeign(t *testing.T, name string, devices ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	const domain = "<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>%s</devices></domain>"
	must(t, os.WriteFile(file, fmt.Appendf(nil, domain, name, strings.Join(devices, "")), 0o600))
	virsh(t, "define", file)
	t.Cleanup(func() {
		_ = exec.Command("virsh", "-q", "destroy", name).Run() // a test may have started it
		_ = exec.Command("virsh", "-q", "undefine", name).Run()
	})
}

func TestOwnedFindsItsOwnAlone(t *testing.T) {
	h := connected(t, system)
	for name, change := range map[string]func(*vm.Owner){
		"hyp-owned-1":       func(*vm.Owner) {},
		"hyp-owned-2":       func(o *vm.Owner) { o.TaskID = alloc + "/task/22222222" },
		"hyp-owned-alloc":   func(o *vm.Owner) { o.Alloc = "another" },
		"hyp-owned-task":    func(o *vm.Owner) { o.Task = "another" },
		"hyp-other-prefix":  func(*vm.Owner) {},
		"prefix-hyp-owned-": func(*vm.Owner) {},
	} {
		s := machine(t, h, name)
		change(&s.Owner)
		must(t, h.Define(t.Context(), s))
	}
	defineForeign(t, "hyp-owned-foreign")
	// Domains that somebody has undefined while they run have their journal still,
	// and others' are no obstacle.
	defineForeign(t, "hyp-owned-passing")
	for _, name := range []string{"hyp-owned-2", "hyp-owned-passing"} {
		virsh(t, "start", name)
		virsh(t, "undefine", name)
	}

	got, _, err := h.Owned(t.Context(), func(name string) bool { return strings.HasPrefix(name, "hyp-owned-") }, ofTheTask)
	must(t, err)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"hyp-owned-1", "hyp-owned-2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = h.Journal(t.Context(), "hyp-owned-foreign")
	if !errors.Is(err, ErrNoDomain) {
		t.Errorf("the journal of a domain that is not ours: %v, want %v", err, ErrNoDomain)
	}
}

func ofTheTask(o vm.Owner) bool { return o.Alloc == alloc && o.Task == "task" }

// UEFI keeps its settings in a file of each domain's.
func TestFirmwareSettingsGoWithTheDomain(t *testing.T) {
	h := connected(t, system)
	for _, test := range []struct {
		name, arch, machine, cpu string
		vcpus, settings          int
	}{
		{"hyp-i686", "i686", "", vm.CPUMaximum, 1, 0},
		{"hyp-arm", "aarch64", "virt", "cortex-a72", 9, 1}, // CPUs: more than GIC 2 can have
	} {
		t.Run(test.name, func(t *testing.T) {
			s := machine(t, h, test.name)
			s.Arch, s.Machine, s.CPUModel, s.VCPUs = test.arch, test.machine, test.cpu, test.vcpus
			settings := func() []string {
				found, _ := filepath.Glob("/var/lib/libvirt/qemu/nvram/" + test.name + "*")
				return found
			}
			must(t, h.Define(t.Context(), s))
			must(t, h.Start(t.Context(), test.name))
			if found := settings(); len(found) != test.settings {
				t.Errorf("while the domain runs there are %q, want %d files", found, test.settings)
			}
			must(t, h.Destroy(t.Context(), test.name))
			must(t, h.Undefine(t.Context(), test.name))
			if found := settings(); len(found) != 0 {
				t.Errorf("the domain is gone, and left %q", found)
			}
		})
	}
}

// testDriver is libvirt's own driver for tests, which needs no QEMU: a domain
// "test" runs, and all is forgotten with the last connection.
const testDriver = "test:///default"

func TestDomainsWithoutQEMU(t *testing.T) {
	h := connected(t, testDriver)
	ctx := t.Context()
	if _, _, err := h.Versions(ctx); err != nil {
		t.Error(err)
	}

	const name = "test"
	mustRun(t, h, name, true)
	ended := waiting(ctx, t, h, name)
	must(t, h.Destroy(ctx, name))
	mustEnd(t, ended, time.Now(), exitKilled)
	must(t, h.Destroy(ctx, name))
	mustRun(t, h, name, false)

	s := &vm.Spec{
		Name: "hyp-test", Owner: vm.Owner{Alloc: alloc, Task: "task"},
		Accel: "test", CPUModel: vm.CPUMaximum, Arch: "i686", VCPUs: 1, Memory: 64 * vm.MiB,
		SeedVolume: vm.Volume{Pool: "default-pool", Name: "seed.img", Path: "/default-pool/seed.img", Format: "raw"},
	}
	must(t, h.Define(ctx, s))
	if j, err := h.Journal(ctx, s.Name); err != nil || j.Owner != s.Owner {
		t.Errorf("the journal tells of %+v, %v, want %+v", j.Owner, err, s.Owner)
	}
	if got, _, err := h.Owned(ctx, func(string) bool { return true }, ofTheTask); err != nil || !slices.Equal(got, []string{s.Name}) {
		t.Errorf("Owned = %q, %v, want %s", got, err, s.Name)
	}
}
