package portmap

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestFlowsEndThatLeadElsewhere(t *testing.T) {
	const peer = "10.99.0.1:5555"
	right := flows{
		{netip.MustParseAddrPort("10.99.0.2:7777"), "udp"}:  netip.MustParseAddrPort("192.168.122.51:80"),
		{netip.MustParseAddrPort("10.99.0.2:7777"), "tcp"}:  netip.MustParseAddrPort("192.168.122.51:80"),
		{netip.MustParseAddrPort("10.99.0.2:7778"), "udp"}:  netip.MustParseAddrPort("10.99.0.2:7778"), // gone
		{netip.MustParseAddrPort("[fd99::2]:7777"), "tcp"}:  netip.MustParseAddrPort("[fd42::51]:80"),
		{netip.MustParseAddrPort("127.0.0.1:7777"), "tcp"}:  netip.MustParseAddrPort("192.168.122.51:80"),
		{netip.MustParseAddrPort("10.99.0.2:20000"), "tcp"}: netip.MustParseAddrPort("192.168.122.51:80"),
	}
	for _, c := range []struct {
		what, proto                      string
		from, to, answersFrom, answersTo string
		ends                             bool
	}{
		{"to the guest", "tcp", peer, "10.99.0.2:7777", "192.168.122.51:80", peer, false},
		{"to the guest, of IPv6", "tcp", "[fd99::1]:5555", "[fd99::2]:7777", "[fd42::51]:80", "[fd99::1]:5555", false},
		{"to the guest, masqueraded", "udp", "192.168.122.52:1", "10.99.0.2:7777", "192.168.122.51:80", "192.168.122.1:1", false},
		{"to the guest, by 127.0.0.1", "tcp", "127.0.0.1:1", "127.0.0.1:7777", "192.168.122.51:80", "192.168.122.1:1", false},
		{"to the guest that was", "tcp", peer, "10.99.0.2:7777", "192.168.122.52:80", peer, true},
		{"to another port of the guest", "tcp", peer, "10.99.0.2:7777", "192.168.122.51:81", peer, true},
		{"to the guest that was, of IPv6", "tcp", "[fd99::1]:5555", "[fd99::2]:7777", "[fd42::52]:80", "[fd99::1]:5555", true},
		{"to the host, from before", "udp", peer, "10.99.0.2:7777", "10.99.0.2:7777", peer, true},
		{"to a port that is gone", "udp", peer, "10.99.0.2:7778", "192.168.122.51:80", peer, true},
		{"to the host, where the port is gone", "udp", peer, "10.99.0.2:7778", "10.99.0.2:7778", peer, false},
		{"to another port", "udp", peer, "10.99.0.2:7779", "192.168.122.52:80", peer, false},
		{"by another protocol", "icmp", peer, "10.99.0.2:7777", "10.99.0.2:7777", peer, false},
		{"begun by the guest", "udp", "192.168.122.51:80", peer, peer, "10.99.0.2:7777", false},
		{"begun by the guest that was", "udp", "192.168.122.52:80", peer, peer, "10.99.0.2:7777", true},
		{"begun by the guest of a port that is gone", "udp", "192.168.122.51:80", peer, peer, "10.99.0.2:7778", true},
		{"begun by another guest, of TCP", "tcp", "192.168.122.52:20000", peer, peer, "10.99.0.2:20000", false},
		{"begun by the host", "udp", "10.99.0.2:7777", peer, peer, "10.99.0.2:7777", false},
		{"begun by the host where the port is gone", "udp", "10.99.0.2:7778", peer, peer, "10.99.0.2:7778", false},
	} {
		tuple := func(from, to string) netlink.IPTuple {
			a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
			return netlink.IPTuple{
				SrcIP: a.Addr().AsSlice(), SrcPort: a.Port(), DstIP: b.Addr().AsSlice(), DstPort: b.Port(),
				Protocol: map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP}[c.proto],
			}
		}
		flow := &netlink.ConntrackFlow{Forward: tuple(c.from, c.to), Reverse: tuple(c.answersFrom, c.answersTo)}
		if ends := right.MatchConntrackFlow(flow); ends != c.ends {
			t.Errorf("%s (%s): ends: %t, want %t", c.what, c.proto, ends, c.ends)
		}
	}
}

func TestFlowsThatCouldNotBeEndedAreLeftToBeDone(t *testing.T) {
	table := New()
	var asked []flows
	var fails error
	table.forget = func(right flows) error {
		asked = append(asked, right)
		return fails
	}
	expect := func(what string, want ...flows) {
		t.Helper()
		if diff := cmp.Diff(want, asked, compare, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: flows were to end of (-want +got):\n%s", what, diff)
		}
		asked = nil
	}
	own := mustPublish(t, dbPort())
	right := flows{}
	for k := range own {
		right[k] = k.Host
	}
	table.all = published{}
	table.noteChanged("db", own, table.all)
	fails = errors.New("no conntrack")
	if err := table.endFlows(ofVM("db")); !errors.Is(err, fails) {
		t.Errorf("error is %v, want %v", err, fails)
	}
	expect("the first time", right)
	table.noteChanged("db", own, own)
	fails = nil
	if err := table.endFlows(ofVM("other")); err != nil {
		t.Error(err)
	}
	expect("another VM")
	if err := table.endFlows(ofVM("db")); err != nil {
		t.Error(err)
	}
	expect("the second time", right)
	if err := table.endFlows(ofAll); err != nil {
		t.Error(err)
	}
	expect("the third time")
}
