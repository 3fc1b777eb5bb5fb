package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

// answersWithin is how long it is listened for answers to a question.
const answersWithin = time.Second

// Neighbors lists the machines with IPv4 addresses that the host has spoken to over
// a bridge, or was told of by them. A bridge that is not there has none.
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

// WhoHas asks everybody on a bridge whose an IPv4 address is, and returns the
// hardware addresses of all who answer within a second, each once. It does not rely
// on what the kernel remembers: any machine can have it remember anything. Where the
// host would not send to that address over the bridge itself, it is ErrNotOnBridge.
func WhoHas(ctx context.Context, bridge string, addr netip.Addr) ([]string, error) {
	link, err := netlink.LinkByName(bridge)
	if isMissing(err) {
		return nil, ErrNotOnBridge
	}
	if err != nil {
		return nil, fmt.Errorf("looking for bridge %s: %w", bridge, err)
	}
	from, err := sourceFor(link.Attrs().Index, addr)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, answersWithin)
	defer cancel()
	socket, err := openARP(link.Attrs().Index)
	if err != nil {
		return nil, fmt.Errorf("asking on bridge %s: %w", bridge, err)
	}
	heard := socket.senders(ctx)
	if err := socket.ask(link.Attrs(), from, addr); err != nil {
		cancel()
		for range heard { // it ends
		}
		return nil, fmt.Errorf("asking on bridge %s for %s: %w", bridge, addr, err)
	}
	var macs []string
	for n := range heard {
		if n.Addr == addr && !slices.Contains(macs, n.MAC) {
			macs = append(macs, n.MAC)
		}
	}
	return macs, nil
}

// sourceFor is the address from which the kernel would send to another over a device,
// without a router between them.
func sourceFor(index int, addr netip.Addr) (netip.Addr, error) {
	routes, err := netlink.RouteGet(addr.AsSlice())
	if err != nil {
		return netip.Addr{}, ErrNotOnBridge //nolint:nilerr // the kernel's way to say that there is no route
	}
	for _, r := range routes {
		isDirect := r.Gw == nil && r.Via == nil && r.Encap == nil && r.Type == unix.RTN_UNICAST
		if source, ok := netip.AddrFromSlice(r.Src.To4()); ok && isDirect && r.LinkIndex == index {
			return source, nil
		}
	}
	return netip.Addr{}, ErrNotOnBridge
}

// Hear returns who is heard to ask or to answer by ARP on a bridge, until the context
// ends: then, or when it cannot be listened there any more, the channel is closed.
func Hear(ctx context.Context, bridge string) (<-chan Neighbor, error) {
	link, err := net.InterfaceByName(bridge)
	if err != nil {
		return nil, fmt.Errorf("listening on bridge %s: %w", bridge, err)
	}
	socket, err := openARP(link.Index)
	if err != nil {
		return nil, fmt.Errorf("listening on bridge %s: %w", bridge, err)
	}
	return socket.senders(ctx), nil
}
