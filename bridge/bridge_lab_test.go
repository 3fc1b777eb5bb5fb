//go:build lab

package bridge

import (
	"net/netip"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
)

// These tests run inside the lab: lab/lab run go test -tags lab ./bridge

func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
}

// newLinks makes bridges, and a device for each that is not on it yet.
func newLinks(t *testing.T) {
	t.Helper()
	for _, bridge := range []string{"br-a", "br-b"} {
		ip(t, "link add "+bridge+" type bridge")
		t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", bridge).Run() })
	}
	ip(t, "link add tap-a type veth peer name tap-b")
	t.Cleanup(func() { ip(t, "link delete tap-a") })
}

func mustBeOn(t *testing.T, device, bridge string) {
	t.Helper()
	on := ""
	link, err := netlink.LinkByName(device)
	if err == nil && link.Attrs().MasterIndex != 0 {
		var master netlink.Link
		if master, err = netlink.LinkByIndex(link.Attrs().MasterIndex); err == nil {
			on = master.Attrs().Name
		}
	}
	if err != nil || on != bridge {
		t.Errorf("%s is on %q, %v, want %q", device, on, err, bridge)
	}
}

func mustRejoin(t *testing.T, tap, bridge string, want bool) {
	t.Helper()
	if joined, err := Rejoin(tap, bridge); err != nil || joined != want {
		t.Errorf("%s on %s: %t, %v, want %t", tap, bridge, joined, err, want)
	}
}

func TestRejoin(t *testing.T) {
	newLinks(t)
	mustRejoin(t, "tap-a", "br-a", true)
	mustBeOn(t, "tap-a", "br-a")
	mustRejoin(t, "tap-a", "br-a", false)
	mustRejoin(t, "tap-a", "br-b", false) // somebody wants it there
	mustBeOn(t, "tap-a", "br-a")

	ip(t, "link delete br-a")
	mustBeOn(t, "tap-a", "")
	mustRejoin(t, "tap-a", "br-a", false) // there is none
	ip(t, "link add br-a type bridge")
	mustRejoin(t, "tap-a", "br-a", true)
	mustBeOn(t, "tap-a", "br-a")
	mustRejoin(t, "tap-none", "br-a", false)
}

func TestLinks(t *testing.T) {
	newLinks(t)
	ip(t, "link set tap-b master br-b")
	ip(t, "address add 10.1.2.3/24 dev br-a")
	ip(t, "address add 10.1.2.4/24 dev br-a") // which Linux calls secondary
	ip(t, "address add fd42::1/64 dev br-a nodad")
	ip(t, "address add fe80::42/64 dev br-a nodad")
	ip(t, "address add fd42::2/64 dev br-a nodad preferred_lft 0") // deprecated
	links, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.2.4"), netip.MustParseAddr("fd42::1")}
	for _, want := range []Link{{"br-a", true, "", addrs}, {"tap-a", false, "", nil}, {"tap-b", false, "br-b", nil}} {
		isWanted := func(l Link) bool { return reflect.DeepEqual(l, want) }
		if !slices.ContainsFunc(links, isWanted) {
			t.Errorf("the links are %v, want %v among them", links, want)
		}
	}
	if slices.ContainsFunc(links, func(l Link) bool { return l.Name == "lo" }) {
		t.Errorf("the loopback is among the links: %v", links)
	}
}
