package hypervisor

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// busy returns a libvirt that is connected, which is asked of by takes alone.
func busy(t *testing.T) *Host {
	t.Helper()
	h := mustNew(t, "qemu:///system")
	h.set(libvirt.NewWithDialer(dialed{}), nil)
	return h
}

// takes asks for what takes some time.
func takes(ctx context.Context, h *Host, took time.Duration) error {
	return do(ctx, h, "working", func(*libvirt.Libvirt) error {
		time.Sleep(took)
		return nil
	})
}

func TestConnectionHasRoomForThePing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busy(t)
		var now, most atomic.Int32
		for range 20 {
			go func() {
				err := do(t.Context(), h, "working", func(*libvirt.Libvirt) error {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(time.Second)
					now.Add(-1)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}()
		}
		time.Sleep(time.Minute)
		if most.Load() != mostCalls || now.Load() != 0 {
			t.Errorf("there were %d calls at once, and %d have not ended, want %d and none", most.Load(), now.Load(), mostCalls)
		}
	})
}

func TestTimeOfACallBeginsWithItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busy(t)
		for range mostCalls {
			go func() { _ = takes(t.Context(), h, callTimeout-time.Second) }()
		}
		synctest.Wait()
		if err := takes(t.Context(), h, callTimeout-time.Second); err != nil {
			t.Errorf("a call that had to wait for its turn is given up: %v", err)
		}
	})
}

func TestWaitForATurnEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := busy(t)
		for range mostCalls {
			go func() { _ = takes(t.Context(), h, 2*turnTimeout) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := takes(ctx, h, 0)
		mustSay(t, err, "working: libvirt has not answered 4 others before it yet")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v, want that of the context", err)
		}
		began := time.Now()
		mustSay(t, takes(t.Context(), h, 0), "not answered 4 others")
		if took := time.Since(began); took != turnTimeout {
			t.Errorf("who has no deadline waits %s for its turn, want %s", took, turnTimeout)
		}
		time.Sleep(2 * turnTimeout) // they end
	})
}

// Calls that nobody answers take up the connection, though it answers pings.
func TestConnectionIsGivenUpWhenNoCallHasAnAnswer(t *testing.T) {
	pong := func() error { return nil }
	for name, test := range map[string]struct {
		calls   int
		takes   time.Duration
		within  time.Duration
		givesUp bool
	}{
		"all of them hang":          {mostCalls, time.Hour, 2 * callTimeout, true},
		"all but one do":            {mostCalls - 1, time.Hour, 20 * time.Minute, false},
		"many that are slow":        {100, callTimeout - time.Second, 5 * time.Minute, false},
		"many after a long silence": {mostCalls, time.Second, 5 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := busy(t)
				ctx, cancel := context.WithTimeout(t.Context(), test.within+callTimeout+2*pingEvery)
				defer cancel()
				time.AfterFunc(callTimeout+2*pingEvery, func() { // not with a ping
					for range test.calls {
						go func() { _ = takes(t.Context(), h, test.takes) }()
					}
				})
				err := h.follow(ctx, pong, events{})
				if gaveUp := !errors.Is(err, context.DeadlineExceeded); gaveUp != test.givesUp {
					t.Errorf("the connection ends so: %v", err)
				}
				time.Sleep(2 * time.Hour) // all calls end
			})
		})
	}
}
