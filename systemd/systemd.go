// Package systemd asks the service manager of this host.
package systemd

import (
	"context"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience is how long the service manager has to answer.
const patience = 2 * time.Second

// Stopping tells whether the host is shutting down. A host that does not answer, or
// has another service manager, is not.
//
// See SystemState in org.freedesktop.systemd1(5).
func Stopping(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return false
	}
	defer func() { _ = bus.Close() }()
	var state string
	err = bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart,
			"org.freedesktop.systemd1.Manager", "SystemState").Store(&state)
	return err == nil && state == "stopping"
}
