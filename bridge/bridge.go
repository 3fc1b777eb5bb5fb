// Package bridge keeps the interfaces of VMs on their bridges.
package bridge

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Rejoin puts a tap device back on its bridge, if it is on none: libvirt takes
// those of VMs that run off a network's bridge when the network is stopped, and does
// not put them back when it starts again. It tells whether it has. A bridge or a
// device that is not there is no error: there is nothing to be joined.
func Rejoin(tap, bridge string) (bool, error) {
	device, err := netlink.LinkByName(tap)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for interface %s: %w", tap, err)
	}
	if device.Attrs().MasterIndex != 0 {
		return false, nil // where it is, or where somebody else wants it to be
	}
	master, err := netlink.LinkByName(bridge)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for bridge %s: %w", bridge, err)
	}
	if err := netlink.LinkSetMaster(device, master); err != nil {
		return false, fmt.Errorf("putting interface %s back on bridge %s: %w", tap, bridge, err)
	}
	return true, nil
}

func isMissing(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}
