package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// arpSocket sends and gets ARP packets on a device.
//
// See packet(7), and RFC 826 for the packets.
type arpSocket struct {
	file  *os.File
	index int // of the device
}

// An ARP packet for Ethernet and IPv4: what it begins with, and where the rest is.
var ethernetToIPv4 = []byte{0, 1, 0x08, 0x00, 6, 4}

const (
	isRequest = 1

	senderMACAt, senderIPAt, targetMACAt, arpLength = 8, 14, 18, 28
)

func openARP(index int) (arpSocket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return arpSocket{}, os.NewSyscallError("socket", err)
	}
	if err := unix.Bind(fd, arpAddress(index, nil)); err != nil {
		_ = unix.Close(fd)
		return arpSocket{}, os.NewSyscallError("bind", err)
	}
	return arpSocket{os.NewFile(uintptr(fd), "arp"), index}, nil
}

func arpAddress(index int, to net.HardwareAddr) *unix.SockaddrLinklayer {
	protocol := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ARP)
	address := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(protocol), Ifindex: index, Halen: uint8(len(to))}
	copy(address.Addr[:], to)
	return address
}

// ask asks everybody on a device who has an address.
func (s arpSocket) ask(device *netlink.LinkAttrs, from, addr netip.Addr) error {
	packet := binary.BigEndian.AppendUint16(bytes.Clone(ethernetToIPv4), isRequest)
	packet = append(packet, device.HardwareAddr...)
	packet = append(packet, from.AsSlice()...)
	packet = append(packet, make([]byte, len(device.HardwareAddr))...)
	packet = append(packet, addr.AsSlice()...)
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	return s.onDescriptor(func(fd int) error {
		return unix.Sendto(fd, packet, 0, arpAddress(s.index, everybody))
	})
}

// senders tells who sends ARP packets, until the context ends, or nothing can be
// received any more. It closes the socket.
func (s arpSocket) senders(ctx context.Context) <-chan Neighbor {
	heard := make(chan Neighbor)
	go func() {
		defer close(heard)
		defer s.file.Close()
		defer context.AfterFunc(ctx, func() { s.file.Close() })()
		for packet := make([]byte, 1500); ; {
			n, from, err := s.receive(packet)
			if err != nil {
				return
			}
			neighbor, ok := sender(packet[:n])
			if !ok || neighbor.MAC != from.String() {
				continue // it speaks for somebody else
			}
			select {
			case heard <- neighbor:
			case <-ctx.Done():
				return
			}
		}
	}()
	return heard
}

// receive waits for a packet, and returns its length and the hardware address that
// its frame is from.
func (s arpSocket) receive(packet []byte) (n int, from net.HardwareAddr, err error) {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return 0, nil, err
	}
	failed := conn.Read(func(fd uintptr) bool {
		var address unix.Sockaddr
		n, address, err = unix.Recvfrom(int(fd), packet, 0)
		if link, is := address.(*unix.SockaddrLinklayer); is && int(link.Halen) <= len(link.Addr) {
			from = link.Addr[:link.Halen]
		}
		return !errors.Is(err, unix.EAGAIN)
	})
	if failed != nil {
		return 0, nil, failed
	}
	return n, from, err
}

func (s arpSocket) onDescriptor(do func(fd int) error) error {
	conn, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	failed := conn.Control(func(fd uintptr) { err = do(int(fd)) })
	if failed != nil {
		return failed
	}
	return err
}

// sender reads who has sent an ARP packet. Who asks whether an address is free has
// none yet (RFC 5227).
func sender(packet []byte) (Neighbor, bool) {
	if len(packet) < arpLength || !bytes.HasPrefix(packet, ethernetToIPv4) {
		return Neighbor{}, false
	}
	addr := netip.AddrFrom4([4]byte(packet[senderIPAt:targetMACAt]))
	return Neighbor{net.HardwareAddr(packet[senderMACAt:senderIPAt]).String(), addr}, !addr.IsUnspecified()
}
