package hypervisortest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

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
