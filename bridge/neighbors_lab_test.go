//go:build lab

package bridge

import (
	"context"
	"errors"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// newNeighbor makes bridge br-a, 10.96.0.1, with a machine on it, 10.96.0.5, and
// returns the hardware address of that.
func newNeighbor(t *testing.T) (mac string) {
	t.Helper()
	newLinks(t)
	ip(t, "address add 10.96.0.1/24 dev br-a")
	ip(t, "link set br-a up")
	ip(t, "link set tap-a master br-a up")
	ip(t, "netns add neighbor")
	t.Cleanup(func() {
		ip(t, "netns exec neighbor ip link set tap-b netns 1")
		ip(t, "netns delete neighbor")
	})
	ip(t, "link set tap-b netns neighbor")
	ip(t, "-n neighbor address add 10.96.0.5/24 dev tap-b")
	ip(t, "-n neighbor link set tap-b up")
	out, err := exec.Command("ip", "-n", "neighbor", "-o", "link", "show", "tap-b").Output()
	_, after, found := strings.Cut(string(out), "link/ether ")
	if err != nil || !found {
		t.Fatalf("the neighbour has no hardware address: %v\n%s", err, out)
	}
	return strings.Fields(after)[0]
}

func mustHave(t *testing.T, addr string, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := WhoHas(ctx, "br-a", netip.MustParseAddr(addr))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s is of %q, %v, want %q", addr, got, err, want)
	}
}

func TestNeighborIsFound(t *testing.T) {
	mac := newNeighbor(t)
	mustHave(t, "10.96.0.5", mac)
	mustHave(t, "10.96.0.6")
	ip(t, "route add 10.95.0.0/24 via 10.96.0.5")
	ip(t, "route add 10.94.0.0/24 via inet6 fe80::1 dev br-a")
	for _, elsewhere := range []string{"10.96.0.1", "10.95.0.1", "10.94.0.1", "10.99.0.1", "127.0.0.1", "198.51.100.1"} {
		if got, err := WhoHas(t.Context(), "br-a", netip.MustParseAddr(elsewhere)); !errors.Is(err, ErrNotOnBridge) {
			t.Errorf("%s is of %q, %v, want %v", elsewhere, got, err, ErrNotOnBridge)
		}
	}
	if all, err := Neighbors("br-none"); err != nil || len(all) != 0 {
		t.Errorf("on no bridge are %v, %v", all, err)
	}
}

// What the kernel remembers any machine can have it remember, and an administrator too.
func TestWhoHasAnAddressIsAskedAnew(t *testing.T) {
	mac := newNeighbor(t)
	const other = "52:54:00:00:00:77"
	ip(t, "neigh replace 10.96.0.5 lladdr "+other+" dev br-a nud stale")
	ip(t, "neigh replace 10.96.0.6 lladdr "+other+" dev br-a nud permanent")
	mustHave(t, "10.96.0.5", mac)
	mustHave(t, "10.96.0.6")
	for _, want := range []Neighbor{{other, netip.MustParseAddr("10.96.0.5")}, {other, netip.MustParseAddr("10.96.0.6")}} {
		if all, err := Neighbors("br-a"); err != nil || !slices.Contains(all, want) {
			t.Errorf("the neighbours are %v, %v, want %v among them still", all, err, want)
		}
	}
}

func TestNeighborIsHeard(t *testing.T) {
	mac := newNeighbor(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	heard, err := Hear(ctx, "br-a")
	if err != nil {
		t.Fatal(err)
	}
	ask := exec.Command("ip", "netns", "exec", "neighbor", "busybox", "ping", "-q", "-c", "50", "-W", "1", "10.96.0.77")
	if err := ask.Start(); err != nil {
		t.Fatal(err)
	}
	want, isHeard := Neighbor{mac, netip.MustParseAddr("10.96.0.5")}, false
	for got := range heard {
		if isHeard = got == want; isHeard {
			break
		}
	}
	if !isHeard {
		t.Errorf("%v was not heard", want)
	}
	cancel()
	for range heard { // it ends
	}
	_ = ask.Process.Kill()
	_ = ask.Wait()
	if _, err := Hear(t.Context(), "br-none"); err == nil {
		t.Error("one can listen on a bridge that is not there")
	}
}
