// Package dhcp gives back the leases of guests that are gone.
package dhcp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"

	"nomad-driver-virt/vm"
)

// serverPort is where DHCP is served.
const serverPort = 67

// Release tells the DHCP server of a bridge that a guest does not need its lease any
// more, in the guest's place. There is no answer to that.
func Release(ctx context.Context, l vm.Lease) error {
	packet, err := message(l)
	if err == nil {
		err = send(ctx, l, packet.ToBytes())
	}
	if err != nil {
		return fmt.Errorf("giving back %s, which is leased to %s: %w", l.Addr, l.MAC, err)
	}
	return nil
}

// message is what a guest says that gives back its lease (RFC 2131, section 4.4.6). The
// server knows leases by what the client has called itself, or where it has not, by its
// hardware address.
func message(l vm.Lease) (*dhcpv4.DHCPv4, error) {
	mac, err := net.ParseMAC(l.MAC)
	if err != nil {
		return nil, err
	}
	modifiers := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease),
		dhcpv4.WithHwAddr(mac),
		dhcpv4.WithClientIP(l.Addr.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice())),
	}
	if len(l.ClientID) > 0 {
		modifiers = append(modifiers, dhcpv4.WithOption(dhcpv4.OptClientIdentifier(l.ClientID)))
	}
	return dhcpv4.New(modifiers...)
}

// send sends a packet to a lease's server. It goes to an address of this host, and the
// server takes it for one that came over its bridge, because it is sent on that: so it is
// with several servers on one host, which listen on a bridge each.
func send(ctx context.Context, l vm.Lease, packet []byte) error {
	dialer := net.Dialer{Control: func(_, _ string, socket syscall.RawConn) error {
		var bound error
		err := socket.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), l.Bridge) })
		if err == nil && bound != nil {
			err = fmt.Errorf("bridge %s: %w", l.Bridge, bound)
		}
		return err
	}}
	conn, err := dialer.DialContext(ctx, "udp4", netip.AddrPortFrom(l.Server, serverPort).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write(packet)
	return err
}
