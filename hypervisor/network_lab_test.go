//go:build lab

package hypervisor

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// reserve reserves an address, and waits until DHCP gives it out.
func reserve(t *testing.T, h *Host, network, mac string) (netip.Addr, error) {
	t.Helper()
	addr, wait, err := h.Reserve(t.Context(), network, mac, netip.Addr{})
	if err == nil {
		err = wait()
	}
	return addr, err
}

// mustBeReserved tells what libvirt's network is, now and at its next start.
func mustBeReserved(t *testing.T, mac string, want bool) {
	t.Helper()
	for _, which := range [][]string{{"net-dumpxml", "default"}, {"net-dumpxml", "default", "--inactive"}} {
		if got := strings.Contains(virsh(t, which...), mac); got != want {
			t.Errorf("%s reserved in %q: %t, want %t", mac, which, got, want)
		}
	}
}

func TestReserve(t *testing.T) {
	h := connected(t, system)
	const many = 12
	addrs := make([]netip.Addr, many)
	mac := func(i int) string { return fmt.Sprintf("52:54:00:77:00:%02x", i) }
	t.Cleanup(func() {
		for i := range many {
			if err := h.Release(context.Background(), "default", mac(i)); err != nil {
				t.Error(err)
			}
		}
	})

	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			addr, err := reserve(t, h, "default", mac(i))
			if err != nil {
				t.Error(err)
			}
			addrs[i] = addr
		})
	}
	all.Wait()
	owner := make(map[netip.Addr]string)
	for i, addr := range addrs {
		if other, taken := owner[addr]; taken {
			t.Errorf("%s is reserved for %s and for %s", addr, other, mac(i))
		}
		owner[addr] = mac(i)
		mustBeReserved(t, mac(i), true)
	}

	again, err := reserve(t, h, "default", strings.ToUpper(mac(10)))
	if err != nil || again != addrs[10] {
		t.Errorf("asked again: %s, %v, want %s", again, err, addrs[10])
	}
	for range 2 {
		must(t, h.Release(t.Context(), "default", mac(3)))
		mustBeReserved(t, mac(3), false)
	}
	if back, err := reserve(t, h, "default", mac(3)); err != nil || back != addrs[3] {
		t.Errorf("reserved again: %s, %v, want %s as before", back, err, addrs[3])
	}
}

func TestReserveInAnUnknownNetwork(t *testing.T) {
	h := connected(t, system)
	_, err := reserve(t, h, "hyp-none", "52:54:00:77:00:01")
	mustSay(t, err, "an address in network hyp-none", "not found")
	must(t, h.Release(t.Context(), "hyp-none", "52:54:00:77:00:01"))
}

// A network that ran when the VM was planned.
func TestReserveInANetworkThatWasStopped(t *testing.T) {
	h := connected(t, system)
	file := filepath.Join(t.TempDir(), "network.xml")
	must(t, os.WriteFile(file, []byte("<network><name>hyp-stopped</name><bridge name='virbr-hyp'/>"+
		"<ip address='10.92.0.1' netmask='255.255.255.0'><dhcp><range start='10.92.0.2' end='10.92.0.9'/></dhcp></ip></network>"), 0o600))
	virsh(t, "net-define", file)
	t.Cleanup(func() { virsh(t, "net-undefine", "hyp-stopped") })
	_, err := reserve(t, h, "hyp-stopped", "52:54:00:77:00:01")
	mustSay(t, err, "choosing an address in network hyp-stopped: ", "somebody has stopped it", "virsh net-start hyp-stopped")
}

func TestNetworkFilterThatIsNotThere(t *testing.T) {
	h := connected(t, system)
	mustSay(t, h.HasNWFilter(t.Context(), "hyp-none"), `libvirt has no network filter "hyp-none"`, "virsh nwfilter-list")
}
