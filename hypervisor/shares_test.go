package hypervisor

import "testing"

func TestSharesBecomeWeights(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 2600: 100, 262144: 10000, 1 << 40: 10000} {
		if got := weightOf(shares); got != want {
			t.Errorf("%d shares are a weight of %d, want %d", shares, got, want)
		}
	}
}

func TestOtherFileSystemsAreNoControlGroups(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/no/such/path"} {
		if isUnified(path) {
			t.Errorf("%s is taken for control groups of version 2", path)
		}
	}
}
