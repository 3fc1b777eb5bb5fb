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

func TestNeighborIsFound(t *testing.T) {
	mac := newNeighbor(t)
	who := func(addr string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		return WhoHas(ctx, "br-a", netip.MustParseAddr(addr))
	}
	for range 2 { // the second time from memory
		if got, err := who("10.96.0.5"); err != nil || got != mac {
			t.Errorf("10.96.0.5 is %q, %v, want %s", got, err, mac)
		}
	}
	if got, err := who("10.96.0.6"); err != nil || got != "" {
		t.Errorf("10.96.0.6 is %q, %v, want nobody", got, err)
	}
	for _, elsewhere := range []string{"10.96.0.1", "10.99.0.1", "127.0.0.1", "198.51.100.1"} {
		if got, err := who(elsewhere); !errors.Is(err, ErrNotOnBridge) {
			t.Errorf("%s is %q, %v, want %v", elsewhere, got, err, ErrNotOnBridge)
		}
	}
	want := Neighbor{mac, netip.MustParseAddr("10.96.0.5")}
	if all, err := Neighbors("br-a"); err != nil || !slices.Contains(all, want) {
		t.Errorf("the neighbours are %v, %v, want %v among them", all, err, want)
	}
	if all, err := Neighbors("br-none"); err != nil || len(all) != 0 {
		t.Errorf("on no bridge are %v, %v", all, err)
	}
}

func TestNeighborIsHeard(t *testing.T) {
	mac := newNeighbor(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	heard := Hear(ctx, "br-a")
	ask := exec.Command("ip", "netns", "exec", "neighbor", "busybox", "ping", "-q", "-c", "20", "-W", "1", "10.96.0.77")
	if err := ask.Start(); err != nil {
		t.Fatal(err)
	}
	want := Neighbor{mac, netip.MustParseAddr("10.96.0.5")}
	for got := range heard {
		if got == want {
			break
		}
	}
	if ctx.Err() != nil {
		t.Errorf("nobody was heard, want %v", want)
	}
	cancel()
	for range heard { // it ends
	}
	_ = ask.Process.Kill()
	_ = ask.Wait()
	for range Hear(t.Context(), "br-none") {
		t.Error("somebody is heard on a bridge that is not there")
	}
}
