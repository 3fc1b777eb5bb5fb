//go:build lab

package hypervisor

import (
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// frozenRelay passes on what is said to libvirt until freeze is called, which
// has it keep silent, as a libvirtd that hangs does.
func frozenRelay(t *testing.T) (uri string, freeze func()) {
	t.Helper()
	var frozen atomic.Bool
	uri, _ = fakeLibvirt(t, func(_ int32, conn net.Conn) {
		defer conn.Close()
		libvirtd, err := net.Dial("unix", "/run/libvirt/libvirt-sock")
		if err != nil {
			return
		}
		defer libvirtd.Close()
		go func() { _, _ = io.Copy(&valve{libvirtd, &frozen}, conn) }()
		_, _ = io.Copy(&valve{conn, &frozen}, libvirtd)
	})
	return uri, func() { frozen.Store(true) }
}

// valve drops what is written to it when it is shut.
type valve struct {
	io.Writer
	shut *atomic.Bool
}

func (v *valve) Write(p []byte) (int, error) {
	if v.shut.Load() {
		return len(p), nil
	}
	return v.Writer.Write(p)
}

func TestLibvirtThatFallsSilentIsNoticed(t *testing.T) {
	uri, freeze := frozenRelay(t)
	h := connected(t, uri)
	freeze()
	start := time.Now()
	_, err := h.Running(within(t, 200*time.Millisecond), "vm")
	mustSay(t, err, "reading the state of domain vm", "libvirt did not answer")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a call of 200 ms takes %s", took)
	}
	eventually(t, 2*pingEvery+5*time.Second, "Health tells", func() bool { return h.Health(t.Context()) != nil })
	mustSay(t, h.Health(t.Context()), "has not answered")
}

func TestRunLeavesNothingOfAConnection(t *testing.T) {
	before := runtime.NumGoroutine()
	h, end := run(t, system)
	must(t, h.Health(within(t, 10*time.Second)))
	if took := end(); took > 5*time.Second {
		t.Errorf("Run returns %s after its context has ended, want at once", took)
	}
	eventually(t, 5*time.Second, "its goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestVersion(t *testing.T) {
	h := connected(t, system)
	libvirt, qemu, err := h.Versions(t.Context())
	must(t, err)
	told := virsh(t, "version")
	for _, want := range []string{"Using library: libvirt " + libvirt.String(), "Running hypervisor: QEMU " + qemu.String()} {
		if !strings.Contains(told, want) {
			t.Errorf("virsh tells\n%s, want %q", told, want)
		}
	}
}
