package hypervisortest

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

func testStats(t *testing.T, s Subject) {
	idle := s.spec(t, "contract-stats-off")
	must(t, s.Define(bounded(t), idle))
	one, other := s.runs(t, "contract-stats-1"), s.runs(t, "contract-stats-2")
	before := time.Now()
	stats, err := s.Stats(bounded(t))
	must(t, err)
	for name, want := range map[string]bool{one: true, other: true, idle.Name: false} {
		got, is := stats[name]
		if is != want {
			t.Errorf("there are statistics of %s: %t, want %t", name, is, want)
		}
		if is && got.At.Before(before) {
			t.Errorf("the statistics of %s are from %s, before they were asked for", name, got.At)
		}
	}
}

func testVolumes(t *testing.T, s Subject) {
	pool, dir := s.newPool(t)
	v := vm.Volume{Pool: pool, Name: "volume.img", Path: filepath.Join(dir, "volume.img"), Format: "raw", Size: vm.MiB, Sparse: true}
	must(t, s.CreateVolume(bounded(t), v, nil))
	if !s.HasVolume(v) {
		t.Error("the volume is not there")
	}
	mustFail(t, "to create what is there", s.CreateVolume(bounded(t), v, nil))
	for range 2 {
		must(t, s.RemoveVolume(bounded(t), v))
		if s.HasVolume(v) {
			t.Error("the volume is there still")
		}
	}
	v.Pool = "contract-no-pool"
	mustFail(t, "to create a volume in a pool that there is not", s.CreateVolume(bounded(t), v, nil))
	must(t, s.RemoveVolume(bounded(t), v))
}

func testPools(t *testing.T, s Subject) {
	pool, dir := s.newPool(t)
	must(t, s.EnsureDirectoryPool(bounded(t), pool, dir+"/"))
	err := s.EnsureDirectoryPool(bounded(t), pool, t.TempDir())
	mustFail(t, "a pool that is elsewhere", err)
	if err != nil && (!strings.Contains(err.Error(), pool) || !strings.Contains(err.Error(), dir)) {
		t.Errorf("the error is %v, want it to name the pool %s and its directory %s", err, pool, dir)
	}
	err = s.EnsureDirectoryPool(bounded(t), pool+"-other", dir+"/")
	mustFail(t, "a second pool in one directory", err)
	if err != nil && !strings.Contains(err.Error(), "name the pool "+pool) {
		t.Errorf("the error is %v, want it to say that the pool's name is %s", err, pool)
	}
}

func testAddresses(t *testing.T, s Subject) {
	if s.Network == "" {
		return // the hypervisor cannot be asked
	}
	const one, other = "52:54:00:77:00:01", "52:54:00:77:00:02"
	reserve := func(mac string) netip.Addr {
		t.Helper()
		addr, wait, err := s.Reserve(bounded(t), s.Network, mac, netip.Addr{})
		must(t, err)
		must(t, wait())
		t.Cleanup(func() {
			if err := s.Release(context.Background(), s.Network, mac); err != nil {
				t.Error(err)
			}
		})
		return addr
	}
	first := reserve(one)
	if second := reserve(other); second == first {
		t.Errorf("%s is reserved twice", first)
	}
	if again := reserve(strings.ToUpper(one)); again != first {
		t.Errorf("asked again, %s is reserved, want %s as before", again, first)
	}
	s.mustTellReserved(t, one, first)
	for range 2 {
		must(t, s.Release(bounded(t), s.Network, one))
		s.mustTellReserved(t, one)
	}
	if back := reserve(one); back != first {
		t.Errorf("reserved again, it is %s, want %s, which nobody has taken", back, first)
	}
	_, _, err := s.Reserve(bounded(t), "contract-none", one, netip.Addr{})
	mustFail(t, "an address of a network that there is not", err)
	must(t, s.Release(bounded(t), "contract-none", one))
	for _, network := range []string{s.Network, "contract-none"} {
		if leases, err := s.Leases(bounded(t), network, one); err != nil || len(leases) != 0 {
			t.Errorf("in network %s, nobody has asked for an address, and is leased %v, %v", network, leases, err)
		}
	}
}

// mustTellReserved tells whether the facts have what is reserved for a hardware address.
func (s Subject) mustTellReserved(t *testing.T, mac string, want ...netip.Addr) {
	t.Helper()
	facts, err := s.Facts(bounded(t), "", "")
	must(t, err)
	var got []netip.Addr
	for _, n := range facts.Networks {
		for _, host := range n.Hosts {
			if n.Name == s.Network && host.MAC == mac {
				got = append(got, host.Addr)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the facts tell that %v is reserved for %s, want %v", got, mac, want)
	}
}
