// Package systemd asks the service manager of this host.
package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long the service manager has to answer.
const patience = 2 * time.Second

const (
	manager     = "org.freedesktop.systemd1"
	managerPath = "/org/freedesktop/systemd1"
)

// Stopping tells whether the host is shutting down. A host that does not answer, or
// has another service manager, is not.
//
// See SystemState in org.freedesktop.systemd1(5).
func Stopping(ctx context.Context) bool {
	state, err := property(ctx, managerPath, manager+".Manager", "SystemState")
	return err == nil && state == "stopping"
}

// Active tells whether a unit is active. A unit that there is not is not. An error
// says that the host does not answer, or has another service manager.
//
// See ActiveState in org.freedesktop.systemd1(5).
func Active(ctx context.Context, unit string) (bool, error) {
	state, err := property(ctx, managerPath+"/unit/"+escaped(unit), manager+".Unit", "ActiveState")
	if err != nil {
		return false, fmt.Errorf("asking systemd about %s: %w", unit, err)
	}
	return state == "active", nil
}

func property(ctx context.Context, path, of, name string) (value string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return "", err
	}
	defer func() { _ = bus.Close() }()
	err = bus.Object(manager, dbus.ObjectPath(path)).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, of, name).Store(&value)
	return value, err
}

// escaped writes the name of a unit as D-Bus has it in paths.
func escaped(unit string) string {
	var b strings.Builder
	for i, c := range []byte(unit) {
		isLetter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if isLetter || c >= '0' && c <= '9' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}
