package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbor is a machine on a bridge.
type Neighbor struct {
	MAC  string // "52:54:00:12:34:56"
	Addr netip.Addr
}

// ErrNotOnBridge says that the host does not reach an address over a bridge.
var ErrNotOnBridge = errors.New("the host has no route there over the bridge")

const (
	// answerWithin is how long a machine has to say that an address is its own. The
	// kernel asks three times, once a second.
	answerWithin = 3500 * time.Millisecond
	askEvery     = 50 * time.Millisecond
)

// Neighbors lists the machines with IPv4 addresses that the host has spoken to over
// a bridge. A bridge that is not there has none.
func Neighbors(bridge string) ([]Neighbor, error) {
	link, err := netlink.LinkByName(bridge)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for bridge %s: %w", bridge, err)
	}
	known, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("listing the neighbours on bridge %s: %w", bridge, err)
	}
	var all []Neighbor
	for _, n := range known {
		if addr, ok := netip.AddrFromSlice(n.IP.To4()); ok && len(n.HardwareAddr) > 0 {
			all = append(all, Neighbor{n.HardwareAddr.String(), addr})
		}
	}
	return all, nil
}

// WhoHas asks by ARP whose an IPv4 address on a bridge is, and returns the hardware
// address of who answers; "" if nobody does. Where the host would not send there
// over the bridge itself, it is ErrNotOnBridge.
func WhoHas(ctx context.Context, bridge string, addr netip.Addr) (string, error) {
	link, err := netlink.LinkByName(bridge)
	if isMissing(err) {
		return "", ErrNotOnBridge
	}
	if err != nil {
		return "", fmt.Errorf("looking for bridge %s: %w", bridge, err)
	}
	ip, index := net.IP(addr.AsSlice()), link.Attrs().Index
	routes, err := netlink.RouteGet(ip)
	reached := func(r netlink.Route) bool { return r.LinkIndex == index && r.Gw == nil && r.Type == unix.RTN_UNICAST }
	if err != nil || !slices.ContainsFunc(routes, reached) {
		return "", ErrNotOnBridge //nolint:nilerr // the kernel's way to say that there is no route
	}
	// The kernel asks, as if it had a packet for that address.
	ask := netlink.Neigh{LinkIndex: index, Family: netlink.FAMILY_V4, IP: ip, Flags: netlink.NTF_USE}
	if err := netlink.NeighSet(&ask); err != nil {
		return "", fmt.Errorf("asking for %s on bridge %s: %w", addr, bridge, err)
	}
	for deadline := time.Now().Add(answerWithin); time.Now().Before(deadline); {
		mac, isKnown, err := resolved(index, ip)
		if err != nil || isKnown {
			return mac, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(askEvery):
		}
	}
	return "", nil
}

// resolved is what the kernel knows of a neighbour, if it is not asking just now.
func resolved(index int, ip net.IP) (mac string, isKnown bool, err error) {
	known, err := netlink.NeighList(index, netlink.FAMILY_V4)
	if err != nil {
		return "", false, fmt.Errorf("listing neighbours: %w", err)
	}
	for _, n := range known {
		switch {
		case !n.IP.Equal(ip) || n.State&(netlink.NUD_INCOMPLETE|netlink.NUD_NONE) != 0:
		case n.State&netlink.NUD_FAILED != 0:
			return "", true, nil
		default:
			return n.HardwareAddr.String(), true, nil
		}
	}
	return "", false, nil
}

// Hear returns who is heard to ask or to answer by ARP on a bridge, until the context
// ends: then, or when it cannot be listened there any more, the channel is closed.
func Hear(ctx context.Context, bridge string) <-chan Neighbor {
	heard := make(chan Neighbor)
	go func() {
		defer close(heard)
		socket, err := listen(bridge)
		if err != nil {
			return
		}
		defer socket.Close()
		defer context.AfterFunc(ctx, func() { socket.Close() })()
		for packet := make([]byte, 1500); ; {
			n, err := socket.Read(packet)
			if err != nil {
				return
			}
			if neighbor, ok := sender(packet[:n]); ok {
				select {
				case heard <- neighbor:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return heard
}

// listen opens a socket that gets all ARP packets which arrive on a bridge.
//
// See packet(7).
func listen(bridge string) (*os.File, error) {
	link, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	protocol := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(protocol), Ifindex: link.Index}); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return os.NewFile(uintptr(fd), "arp on "+bridge), nil
}

// sender reads who has sent an ARP packet. Who asks whether an address is free has
// none yet.
//
// See RFC 826, and RFC 5227 for such probes.
func sender(packet []byte) (Neighbor, bool) {
	const (
		hardwareAt, protocolAt, length = 8, 14, 28
	)
	ethernetToIPv4 := []byte{0, 1, 0x08, 0x00, 6, 4}
	if len(packet) < length || !bytes.HasPrefix(packet, ethernetToIPv4) {
		return Neighbor{}, false
	}
	addr := netip.AddrFrom4([4]byte(packet[protocolAt:]))
	return Neighbor{net.HardwareAddr(packet[hardwareAt:protocolAt]).String(), addr}, !addr.IsUnspecified()
}
