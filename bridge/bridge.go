// Package bridge keeps the interfaces of VMs on their bridges, and finds out who has
// which address there.
package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// Link is a network device of the host.
type Link struct {
	Name     string
	IsBridge bool
	Bridge   string       // that it is a port of; "": none
	Addrs    []netip.Addr // those that others may know it by
}

// Links lists the host's network devices but for the loopback.
//
// See sysfs-class-net in the kernel's Documentation/ABI/testing.
func Links() ([]Link, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing the host's network devices: %w", err)
	}
	addrs, err := addresses()
	if err != nil {
		return nil, fmt.Errorf("listing the addresses of the host's network devices: %w", err)
	}
	var links []Link
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		link := Link{Name: i.Name, Addrs: addrs[i.Index]}
		if _, err := os.Stat(filepath.Join("/sys/class/net", i.Name, "bridge")); err == nil {
			link.IsBridge = true
		}
		if of, err := os.Readlink(filepath.Join("/sys/class/net", i.Name, "brport", "bridge")); err == nil {
			link.Bridge = filepath.Base(of)
		}
		links = append(links, link)
	}
	return links, nil
}

// addresses lists the addresses of the host's network devices, by their indexes,
// without those of one link alone and those of IPv6 that do not stay.
func addresses() (map[int][]netip.Addr, error) {
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	// Where many come and go the list may be of several moments.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, err
	}
	const passing = unix.IFA_F_TEMPORARY | unix.IFA_F_DEPRECATED
	const unsure = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	of := make(map[int][]netip.Addr)
	for _, a := range all {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		stays := addr.Is4() || a.Flags&(passing|unsure) == 0 // the flags of IPv4 say other things
		if ok && addr.IsGlobalUnicast() && stays {
			of[a.LinkIndex] = append(of[a.LinkIndex], addr)
		}
	}
	return of, nil
}

func isMissing(err error) bool {
	var missing netlink.LinkNotFoundError
	return errors.As(err, &missing)
}
