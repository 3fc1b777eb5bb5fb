//go:build lab

package portmap

import (
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPortOfAProcessIsNotTaken(t *testing.T) {
	tcp := func(network, at string) func() (io.Closer, error) {
		return func() (io.Closer, error) { return net.Listen(network, at) }
	}
	udp := func(network, at string) func() (io.Closer, error) {
		return func() (io.Closer, error) { return net.ListenPacket(network, at) }
	}
	both := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) { // of both versions of IP
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) })
		return err
	}}
	tcpOfBoth := func() (io.Closer, error) { return both.Listen(t.Context(), "tcp6", "[::]:20010") }
	udpOfBoth := func() (io.Closer, error) { return both.ListenPacket(t.Context(), "udp6", "[::]:20010") }
	for name, c := range map[string]struct {
		open func() (io.Closer, error)
		host string
	}{
		"at its address":          {tcp("tcp4", "10.99.0.2:20010"), "10.99.0.2:20010"},
		"at all of IPv4":          {tcp("tcp4", "0.0.0.0:20010"), "10.99.0.2:20010"},
		"at all":                  {tcpOfBoth, "10.99.0.2:20010"},
		"by UDP":                  {udp("udp4", "10.99.0.2:20010"), "10.99.0.2:20010"},
		"by UDP at all":           {udpOfBoth, "10.99.0.2:20010"},
		"at an address of IPv6":   {tcp("tcp6", "[fd99::2]:20010"), "[fd99::2]:20010"},
		"at all, asked by IPv6":   {tcpOfBoth, "[fd99::2]:20010"},
		"on loopback":             {tcp("tcp4", "127.0.0.1:20010"), "127.0.0.1:20010"},
		"at all, for loopback":    {tcp("tcp4", "0.0.0.0:20010"), "127.0.0.1:20010"},
		"by UDP, asked by itself": {udp("udp6", "[fd99::2]:20010"), "[fd99::2]:20010"},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "a")
			before := hostState(t)
			process, err := c.open()
			mustDo(t, err)
			mustTell(t, publish(t, table, publication("a", "one", c.host)), c.host+` (label "http") is in use by a process of this host`)
			if after := hostState(t); after != before {
				t.Errorf("the refused publication changed the host from\n%s\nto\n%s", before, after)
			}
			mustDo(t, process.Close())
			mustDo(t, publish(t, table, publication("a", "one", c.host)))
		})
	}
}

func TestSocketsThatServeNobodyAreInNoPortsWay(t *testing.T) {
	const host = "10.99.0.2:20010"
	from := func(network string) func() (io.Closer, error) {
		return func() (io.Closer, error) {
			dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(host))}
			if network == "udp4" {
				dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(host))
			}
			return dialer.DialContext(t.Context(), network, "192.168.122.51:8000")
		}
	}
	for name, c := range map[string]struct {
		open func() (io.Closer, error)
		kind int
	}{
		"a connection to elsewhere": {from("tcp4"), unix.SOCK_STREAM},
		"a UDP client":              {from("udp4"), unix.SOCK_DGRAM},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "a")
			process, err := c.open()
			mustDo(t, err)
			defer process.Close()
			if !isBound(netip.MustParseAddrPort(host), c.kind) {
				t.Error("the port can be bound: this test tells nothing")
			}
			mustDo(t, publish(t, table, publication("a", "one", host)))
		})
	}
	for network, elsewhere := range map[string]string{"tcp4": "10.98.0.2:20010", "tcp6": "[::]:20010"} { // of IPv6 alone
		t.Run("a server at "+elsewhere, func(t *testing.T) {
			table := newTable(t, "a")
			process, err := net.Listen(network, elsewhere)
			mustDo(t, err)
			defer process.Close()
			mustDo(t, publish(t, table, publication("a", "one", host)))
		})
	}
}

// What is published once stays: the process that comes later is not asked about.
func TestProcessThatComesLaterTakesNoChosenPort(t *testing.T) {
	table := newTable(t, "a")
	a := publication("a", "one", "10.99.0.2:20010")
	mustDo(t, publish(t, table, a))
	process, err := net.Listen("tcp4", "10.99.0.2:20010")
	mustDo(t, err)
	defer process.Close()
	mustDo(t, publish(t, table, a))
	must(t, "nft delete table inet nomad_virt")
	restore(t, table, a)
	mustAnswer(t, "far", "10.99.0.2:20010", "one 10.99.0.1")
}
