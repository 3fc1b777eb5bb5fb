package rbd

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

// parsed is a table of what rbd 16 writes, and of what it must not be taken for.
type parsed[T any] struct {
	name, out string
	want      T
	fails     bool
}

func check[T any](t *testing.T, parse func([]byte) (T, error), tests []parsed[T]) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parse([]byte(test.out))
			if (err != nil) != test.fails {
				t.Fatalf("%v, want an error: %t", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseSize(t *testing.T) {
	check(t, parseSize, []parsed[vm.Bytes]{
		{"a volume", `{"name":"a","id":"101f6e4e0bd0","size":1048577,"objects":1,"order":22,"object_size":4194304}`, 1048577, false},
		{"an empty one", `{"size":0}`, 0, false},
		{"no size", `{"name":"a"}`, 0, true},
		{"a text", "rbd image 'a':", 0, true},
		{"nothing", "", 0, true},
	})
}

func TestParseNames(t *testing.T) {
	check(t, parseNames, []parsed[[]string]{
		{"volumes", `["a","with space"]`, []string{"a", "with space"}, false},
		{"none", `[]`, []string{}, false},
		{"a text", "a\nb", nil, true},
	})
}

func TestParseSnapshots(t *testing.T) {
	check(t, parseSnapshots, []parsed[[]snapshot]{
		{"texts", `[{"id":4,"name":"vm1","size":67108864,"protected":"false"},{"id":5,"name":"p","protected":"true"}]`,
			[]snapshot{{"vm1", false}, {"p", true}}, false},
		{"truths", `[{"name":"p","protected":true},{"name":"q","protected":false}]`, []snapshot{{"p", true}, {"q", false}}, false},
		{"none", `[]`, nil, false},
		{"a text", "SNAPID", nil, true},
	})
}

func TestParseChildren(t *testing.T) {
	check(t, parseChildren, []parsed[[]string]{
		{"clones", `[{"pool":"vms","pool_namespace":"","image":"vm1","id":"104d643c8a18","trash":false},{"pool":"vms","image":"old","trash":true}]`,
			[]string{"vms/vm1", "vms/old (in the trash)"}, false},
		{"none", `[]`, nil, false},
		{"a text", "vms/vm1", nil, true},
	})
}

func TestParseUsed(t *testing.T) {
	check(t, parseUsed, []parsed[time.Time]{
		{"noted", `{"other":"x","nomad-driver-virt.used":"2026-11-24T04:30:00Z"}`, time.Date(2026, 11, 24, 4, 30, 0, 0, time.UTC), false},
		{"not noted", `{"other":"x"}`, time.Time{}, false},
		{"no metadata", `{}`, time.Time{}, false},
		{"nothing written", "", time.Time{}, false},
		{"no time", `{"nomad-driver-virt.used":"yesterday"}`, time.Time{}, true},
		{"a text", "There are 0 metadata", time.Time{}, true},
	})
}

func TestParseFull(t *testing.T) {
	for _, test := range []struct {
		name, dump         string
		full, quota, fails bool
	}{
		{"full", `{"pools":[{"pool_name":"vms","flags":8195,"flags_names":"hashpspool,full,selfmanaged_snaps"}]}`, true, false, false},
		{"over its quota", `{"pools":[{"pool_name":"vms","flags_names":"hashpspool,full_quota"}]}`, true, true, false},
		{"nearly", `{"pools":[{"pool_name":"vms","flags_names":"hashpspool,nearfull,backfillfull"}]}`, false, false, false},
		{"another", `{"pools":[{"pool_name":"vms2","flags_names":"full"},{"pool_name":"vms","flags_names":""}]}`, false, false, false},
		{"unknown", `{"pools":[]}`, false, false, false},
		{"a text", "epoch 35", false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			full, quota, err := parseFull([]byte(test.dump), "vms")
			if full != test.full || quota != test.quota || (err != nil) != test.fails {
				t.Errorf("full %t, by quota %t, %v, want %t, %t, an error: %t", full, quota, err, test.full, test.quota, test.fails)
			}
		})
	}
}
