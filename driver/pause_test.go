package driver

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/hypervisor"
)

func TestPauseIsToldWhenItLasts(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var p pause
	lasts := func(after time.Duration, wantTell bool, wantAgain time.Duration) {
		t.Helper()
		if tell, again := p.lasts(start.Add(after)); tell != wantTell || again != wantAgain {
			t.Errorf("after %s: %t, again in %s, want %t, %s", after, tell, again, wantTell, wantAgain)
		}
	}
	lasts(0, false, 3*time.Second)
	lasts(time.Second, false, 2*time.Second)
	if p.over() {
		t.Error("the end of a pause is told that was not")
	}
	lasts(10*time.Second, false, 3*time.Second)
	lasts(13*time.Second, true, 0)
	lasts(20*time.Second, false, 0)
	if !p.over() {
		t.Error("the end of a pause is not told that was")
	}
	if p.over() {
		t.Error("the end of a pause is told twice")
	}
	lasts(30*time.Second, false, 3*time.Second)
}

// pausedVM has a note of its pause.
type pausedVM struct {
	domains
	noted bool
	err   error
}

func (p *pausedVM) PauseNoted(context.Context, string) (bool, error) { return p.noted, p.err }

func (p *pausedVM) NotePause(_ context.Context, _ string, paused bool) error {
	p.noted = paused
	return nil
}

// Who has sent the signal may have been told so by a plugin before this one.
func TestPauseBySignalIsNoOtherHands(t *testing.T) {
	const (
		paused = "The guest is paused by another hand than Nomad's; virsh resume web or nomad alloc signal -s SIGCONT has it go on"
		goesOn = "The guest goes on, it is not paused any more"
	)
	for name, test := range map[string]struct {
		noted bool
		away  time.Duration // libvirt
		want  []string
	}{
		"by a signal":                        {true, 0, nil},
		"by a signal, and libvirt is away":   {true, time.Minute, nil},
		"by another hand":                    {false, 0, []string{"3s " + paused, "2m0s " + goesOn}},
		"by another hand, libvirt came back": {false, 10 * time.Second, []string{"12s " + paused, "2m0s " + goesOn}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host, began := &pausedVM{noted: test.noted}, time.Now()
				var told []string
				k := keeper{host: host, vm: "web", tell: func(format string, args ...any) {
					told = append(told, time.Since(began).String()+" "+fmt.Sprintf(format, args...))
				}}
				for time.Since(began) < 2*time.Minute {
					host.err = nil
					if time.Since(began) < test.away {
						host.err = errors.New("away")
					}
					again := k.look(t.Context(), hypervisor.GuestOther)
					if again == 0 {
						again = 2*time.Minute - time.Since(began)
					}
					time.Sleep(again)
				}
				k.look(t.Context(), hypervisor.GuestRuns)
				if diff := cmp.Diff(test.want, told, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("the events (-want +got):\n%s", diff)
				}
				if host.noted {
					t.Error("the pause is noted still, and over")
				}
			})
		})
	}
}
