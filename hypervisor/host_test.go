package hypervisor

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeLibvirt listens where libvirt would, and treats the n-th connection, the
// first is 1, as serve does. It returns the socket's URI and the number of
// connections so far.
func fakeLibvirt(t *testing.T, serve func(n int32, conn net.Conn)) (uri string, accepted *atomic.Int32) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "libvirt-sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	accepted = new(atomic.Int32)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(accepted.Add(1), conn)
		}
	}()
	return "qemu:///system?socket=" + socket, accepted
}

func hangUp(_ int32, conn net.Conn) { conn.Close() }

// keepSilent reads what it is sent until the other side has enough.
func keepSilent(_ int32, conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn)
}

// run runs the libvirt at a URI until end is called, which tells how long Run
// took to return.
func run(t *testing.T, uri string) (h *Host, end func() time.Duration) {
	t.Helper()
	h = mustNew(t, uri)
	return h, runHost(t, h)
}

func mustNew(t *testing.T, uri string) *Host {
	t.Helper()
	h, err := New(uri)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func runHost(t *testing.T, h *Host) (end func() time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx)
	}()
	end = sync.OnceValue(func() time.Duration {
		cancel()
		start := time.Now()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("Run has not returned 5 s after its context has ended")
		}
		return time.Since(start)
	})
	t.Cleanup(func() { end() })
	return end
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for ctx := within(t, limit); !holds(); {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %s", limit, what)
		case <-look.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustSay(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error is %v, want it to say %q", err, part)
		}
	}
}

func TestWithoutLibvirtHealthSaysSo(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "libvirt-sock")
	h, _ := run(t, "qemu:///system?socket="+socket)
	mustSay(t, h.Health(within(t, 5*time.Second)), "is libvirtd running?", socket, "no such file")
	_, err := h.Running(within(t, 5*time.Second), "vm")
	mustSay(t, err, "reading the state of domain vm", "is libvirtd running?")
	if errors.Is(err, ErrNoDomain) {
		t.Error("libvirt's absence is taken for the domain's")
	}
}

func TestLibvirtThatHangsUpIsTriedAgain(t *testing.T) {
	uri, accepted := fakeLibvirt(t, hangUp)
	h := mustNew(t, uri)
	changed := h.Changed() // before it can fail: the same again is no change
	runHost(t, h)
	mustSay(t, h.Health(within(t, 5*time.Second)), "libvirt", uri)
	select {
	case <-changed:
	case <-within(t, 5*time.Second).Done():
		t.Error("Changed does not tell of the failure")
	}
	eventually(t, 3*reconnectEvery, "it connects again", func() bool { return accepted.Load() > 1 })
	mustSay(t, h.Start(within(t, 5*time.Second), "vm"), "starting domain vm", uri)
}

// A process that is stopped, for one, accepts and does not answer.
func TestSilentLibvirtIsGivenUp(t *testing.T) {
	uri, accepted := fakeLibvirt(t, func(n int32, conn net.Conn) {
		if n == 1 {
			keepSilent(n, conn)
		} else {
			hangUp(n, conn)
		}
	})
	h, _ := run(t, uri)

	err := h.Health(within(t, 50*time.Millisecond))
	mustSay(t, err, uri, "not connected yet")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want that of the context", err)
	}
	mustSay(t, h.Start(within(t, 50*time.Millisecond), "vm"), "starting domain vm", "not connected yet")

	start := time.Now()
	mustSay(t, h.Health(within(t, connectTimeout+5*time.Second)), uri, "answer")
	if took := time.Since(start); took > connectTimeout+time.Second {
		t.Errorf("it is given up after %s, want %s", took, connectTimeout)
	}
	eventually(t, 2*reconnectEvery, "it connects again", func() bool { return accepted.Load() > 1 })
}

func TestRunEndsWithItsContext(t *testing.T) {
	for name, serve := range map[string]func(int32, net.Conn){"hangs up": hangUp, "keeps silent": keepSilent} {
		t.Run("while libvirt "+name, func(t *testing.T) {
			uri, accepted := fakeLibvirt(t, serve)
			before := runtime.NumGoroutine()
			_, end := run(t, uri)
			eventually(t, 5*time.Second, "it connects", func() bool { return accepted.Load() > 0 })
			if took := end(); took > time.Second {
				t.Errorf("Run returns %s after its context has ended, want at once", took.Round(time.Millisecond))
			}
			eventually(t, 5*time.Second, "its goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}
