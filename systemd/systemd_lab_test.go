//go:build lab

package systemd

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// properties are those of a service manager, or of a unit.
type properties struct{ name, state string }

// Get answers for org.freedesktop.DBus.Properties.
func (p properties) Get(_, property string) (dbus.Variant, *dbus.Error) {
	if property != p.name {
		return dbus.Variant{}, dbus.MakeFailedError(os.ErrNotExist)
	}
	return dbus.MakeVariant(p.state), nil
}

// newBus starts a bus that is taken for the system's.
func newBus(t *testing.T) (address string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "bus")
	daemon := exec.Command("dbus-daemon", "--session", "--nofork", "--print-address", "--address=unix:path="+socket)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	return strings.TrimSpace(line)
}

func mustStop(t *testing.T, what string, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if got := Stopping(ctx); got != want {
		t.Errorf("%s: it is shutting down: %t, want %t", what, got, want)
	}
}

func TestStopping(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	mustStop(t, "a host without a bus", false)
	address := newBus(t)
	mustStop(t, "a host without systemd", false)

	manager, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if _, err := manager.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]bool{"starting": false, "running": false, "degraded": false, "stopping": true} {
		err := manager.Export(properties{"SystemState", state}, "/org/freedesktop/systemd1", "org.freedesktop.DBus.Properties")
		if err != nil {
			t.Fatal(err)
		}
		mustStop(t, state, want)
	}
}

func TestActive(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	address := newBus(t)
	if is, err := Active(ctx, "libvirt-guests.service"); err == nil {
		t.Errorf("a host without systemd says that a unit is active: %t", is)
	}
	manager, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	if _, err := manager.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string]bool{"active": true, "inactive": false, "failed": false} {
		err := manager.Export(properties{"ActiveState", state},
			"/org/freedesktop/systemd1/unit/libvirt_2dguests_2eservice", "org.freedesktop.DBus.Properties")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Active(ctx, "libvirt-guests.service"); err != nil || got != want {
			t.Errorf("%s: it is active: %t, error %v, want %t", state, got, err, want)
		}
	}
}
