package portmap

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// isTaken tells whether a port beside a chosen one is better left alone: it would
// answer nobody, or a process of the host has it.
func isTaken(host netip.AddrPort) bool {
	return host.Addr().Is6() && forwardsIPv6() != nil ||
		isBound(host, unix.SOCK_STREAM) || isBound(host, unix.SOCK_DGRAM)
}

// isBound tells whether a process of the host has a port, or the host the address no
// longer.
func isBound(host netip.AddrPort, kind int) bool {
	err := tryBind(host, kind)
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// tryBind takes a port for a moment, of TCP in a way that does not keep others from it:
// without listening, and shared with those who allow it. What it costs does not grow
// with the host's sockets.
func tryBind(host netip.AddrPort, kind int) error {
	family, addr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(host.Port()), Addr: host.Addr().As16()})
	if host.Addr().Is4() {
		family, addr = unix.AF_INET, &unix.SockaddrInet4{Port: int(host.Port()), Addr: host.Addr().As4()}
	}
	socket, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	if kind == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(socket, addr)
	}
	return err
}

// isServed tells whether a process of the host waits at a port for whoever comes. That
// it cannot be bound is not enough: a connection of the host's to elsewhere may have the
// number, or one that has ended.
func isServed(k port) bool {
	kind := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[k.Proto]
	if !errors.Is(tryBind(k.Host, kind), unix.EADDRINUSE) {
		return false
	}
	for _, list := range []string{k.Proto, k.Proto + "6"} { // those of IPv6 may take IPv4, too
		text, err := os.ReadFile("/proc/thread-self/net/" + list) // of the namespace in which it was tried
		if err == nil && listsServer(string(text), k) {
			return true
		}
	}
	return false
}

// listsServer tells whether one of the kernel's lists of sockets has one that waits at
// a port, at its address or at all. See proc_net_tcp in the kernel's documentation.
func listsServer(list string, k port) bool {
	waits := map[string]string{"tcp": "0A", "udp": "07"}[k.Proto] // listening; not connected
	for line := range strings.Lines(list) {
		fields := strings.Fields(line) // number, own address, the other's, state
		if len(fields) < 4 || fields[3] != waits {
			continue
		}
		at, err := parseSocket(fields[1])
		if err != nil || at.Port() != k.Host.Port() {
			continue
		}
		if at.Addr() == k.Host.Addr() || at.Addr().IsUnspecified() {
			return true
		}
	}
	return false
}

// parseSocket reads an address as the kernel lists it: numbers of 32 bits in the host's
// order of bytes, which stand in memory in that of the network.
func parseSocket(text string) (netip.AddrPort, error) {
	words, number, _ := strings.Cut(text, ":")
	portNumber, err := strconv.ParseUint(number, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var addr []byte
	for ; len(words) >= 8; words = words[8:] {
		word, err := strconv.ParseUint(words[:8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, err
		}
		addr = binary.NativeEndian.AppendUint32(addr, uint32(word))
	}
	at, ok := netip.AddrFromSlice(addr)
	if !ok {
		return netip.AddrPort{}, strconv.ErrSyntax
	}
	return netip.AddrPortFrom(at.Unmap(), uint16(portNumber)), nil
}
