package hypervisortest

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

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

func testInterfaces(t *testing.T, s Subject) {
	of := func(name string, interfaces ...vm.Interface) (spec *vm.Spec) {
		t.Helper()
		spec = s.spec(t, name)
		spec.Interfaces = interfaces
		must(t, s.Define(bounded(t), spec))
		return spec
	}
	two := of("contract-nics", vm.Interface{Bridge: "virbr0", MAC: "52:54:00:77:01:01"},
		vm.Interface{Bridge: "virbr0", Network: "default", MAC: "52:54:00:77:01:02", Reserved: true})
	one := of("contract-nic", vm.Interface{Bridge: "virbr0", MAC: "52:54:00:77:01:03"})
	of("contract-no-nic")
	want := []domxml.Interface{
		{MAC: "52:54:00:77:01:01", Domain: two.Name, Owner: two.Owner},
		{MAC: "52:54:00:77:01:02", Domain: two.Name, Owner: two.Owner, Reserved: true},
		{MAC: "52:54:00:77:01:03", Domain: one.Name, Owner: one.Owner},
	}
	got, err := s.Interfaces(bounded(t))
	must(t, err)
	// Others may have domains there.
	got = slices.DeleteFunc(got, func(i domxml.Interface) bool { return !strings.HasPrefix(i.Domain, "contract-") })
	slices.SortFunc(got, func(a, b domxml.Interface) int { return strings.Compare(a.MAC, b.MAC) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
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

func testPauseNote(t *testing.T, s Subject) {
	name := s.runs(t, "contract-pause")
	must(t, s.NoteStop(bounded(t), name, time.Now())) // a note of its own
	must(t, s.NotePause(bounded(t), name, false))     // there is none
	for _, want := range []bool{false, true, true, false} {
		must(t, s.NotePause(bounded(t), name, want))
		noted, err := s.PauseNoted(bounded(t), name)
		must(t, err)
		if noted != want {
			t.Errorf("a pause is noted: %t, want %t", noted, want)
		}
	}
	by, err := s.StopNoted(bounded(t), name)
	must(t, err)
	if by.IsZero() {
		t.Error("the note of a stop went with that of a pause")
	}
}

func testAddressNote(t *testing.T, s Subject) {
	name := s.runs(t, "contract-address")
	noted, err := s.AddressesNoted(bounded(t), name)
	must(t, err)
	if len(noted) != 0 {
		t.Errorf("a VM of which nothing is noted has the addresses %v", noted)
	}
	must(t, s.NoteStop(bounded(t), name, time.Now())) // a note of its own
	for _, last := range []string{"192.0.2.5", "192.0.2.6"} {
		want := map[string]netip.Addr{"52:54:00:12:34:56": netip.MustParseAddr(last)}
		must(t, s.NoteAddresses(bounded(t), name, want))
		noted, err = s.AddressesNoted(bounded(t), name)
		must(t, err)
		if !maps.Equal(noted, want) {
			t.Errorf("its addresses are %v, want %v", noted, want)
		}
	}
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
		"contract-owned-bad":   func(*vm.Owner) {},
		"contract-no-name":     func(*vm.Owner) {},
	} {
		spec := s.spec(t, name)
		change(&spec.Owner)
		must(t, s.Define(bounded(t), spec))
	}
	const bad = `<vm xmlns="` + domxml.MetadataURI + `"><task alloc="alloc" name="task"/><volume pool="p" name="v" keep="for ever"/></vm>`
	must(t, s.Edit("contract-owned-bad", bad))
	got, unreadable, err := s.Owned(bounded(t),
		func(name string) bool { return strings.HasPrefix(name, "contract-owned-") },
		func(o vm.Owner) bool { return o.Alloc == "alloc" && o.Task == "task" })
	must(t, err)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"contract-owned-1", "contract-owned-2"}, got); diff != "" {
		t.Errorf("those of the owner (-want +got):\n%s", diff)
	}
	if why := unreadable["contract-owned-bad"]; len(unreadable) != 1 || !errors.Is(why, domxml.ErrBadJournal) ||
		!strings.Contains(why.Error(), "contract-owned-bad") {
		t.Errorf("those that cannot be read are %v, want the one that was edited, and why it is so, by name", unreadable)
	}
	_, err = s.Journal(bounded(t), "contract-owned-bad")
	if !errors.Is(err, domxml.ErrBadJournal) {
		t.Errorf("its journal: %v, want %v", err, domxml.ErrBadJournal)
	}
}

func testUnknown(t *testing.T, s Subject) {
	const name = "contract-unknown"
	ctx := bounded(t)
	_, running := s.Running(ctx, name)
	_, guest := s.Guest(ctx, name)
	_, journal := s.Journal(ctx, name)
	_, addresses := s.AgentAddresses(ctx, name)
	_, noted := s.AddressesNoted(ctx, name)
	for what, err := range map[string]error{
		"Running": running, "Guest": guest, "Journal": journal, "AgentAddresses": addresses,
		"Start": s.Start(ctx, name), "Resume": s.Resume(ctx, name), "Suspend": s.Suspend(ctx, name), "Shutdown": s.shutdown(ctx, name),
		"AskAgent": s.AskAgent(ctx, name), "PressPowerButton": s.PressPowerButton(ctx, name), "NoteStop": s.NoteStop(ctx, name, time.Now()), "NoteAddresses": s.NoteAddresses(ctx, name, nil), "AddressesNoted": noted,
		"SetCPUShares": s.SetCPUShares(ctx, name, 1024),
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
