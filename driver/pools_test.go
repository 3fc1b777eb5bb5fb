package driver

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

func TestMonitorsAddress(t *testing.T) {
	for host, want := range map[string]string{ // "" is refused
		"192.0.2.1":              "192.0.2.1:3300",
		"192.0.2.1:6789":         "192.0.2.1:6789",
		"mon.example.org":        "mon.example.org:3300",
		"mon-a:3300":             "mon-a:3300",
		"2001:db8::1":            "[2001:db8::1]:3300",
		"[2001:db8::1]":          "[2001:db8::1]:3300",
		"[2001:db8::1]:6789":     "[2001:db8::1]:6789",
		"::1":                    "[::1]:3300",
		"":                       "",
		":3300":                  "",
		"[]":                     "",
		"[]:3300":                "",
		"192.0.2.1:":             "",
		"192.0.2.1:0":            "",
		"192.0.2.1:65536":        "",
		"192.0.2.1:ceph":         "",
		"192.0.2.1:-1":           "",
		"192.0.2.1:3300:6789":    "",
		"v2:192.0.2.1:3300/0":    "",
		"192.0.2.1:3300/0":       "",
		"192.0.2.1,192.0.2.2":    "",
		"192.0.2.1;192.0.2.2":    "",
		"192.0.2.1 192.0.2.2":    "",
		"user@192.0.2.1":         "",
		"rbd/192.0.2.1":          "",
		"2001:db8::1::2":         "",
		"mon:a:b":                "",
		"[2001:db8::1":           "",
		"2001:db8::1]":           "",
		"mon\n":                  "",
		"mon\t:3300":             "",
		"[v2:192.0.2.1:3300/0]":  "",
		"http://192.0.2.1:3300/": "",
	} {
		got, err := monitor(host)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("monitor(%q) = %q, %v, want %q", host, got, err, want)
		}
		c := cephPool(host)
		var p, refused problems
		c.validate(&p, "remote")
		if want == "" {
			refused.addf(`storage_pools.ceph "remote".hosts[0]`,
				"%q is no monitor's address; write it as address:port, an IPv6 address in brackets", host)
		}
		if diff := cmp.Diff(refused, p); diff != "" {
			t.Errorf("the problems of the monitor %q (-want +got):\n%s", host, diff)
		}
	}
}

func TestCephPoolIsReachedAsItIsConfigured(t *testing.T) {
	for _, username := range []string{"nomad", "client.nomad"} {
		c := cephPool("192.0.2.1", "[2001:db8::1]:6789")
		c.Authentication.Username = username
		want := &vm.RBD{
			Pool:     "rbd",
			Monitors: []string{"192.0.2.1:3300", "[2001:db8::1]:6789"},
			User:     "nomad",
			Secret:   domxml.SecretUUID("remote"),
		}
		if diff := cmp.Diff(want, c.rbd("remote")); diff != "" {
			t.Errorf("the pool of the user %q (-want +got):\n%s", username, diff)
		}
	}
}

// witness is a pool that has some volumes, and of which is kept what was done to
// them.
type witness struct {
	storage.Pool
	volumes []string
	renamed string
	removed []string
}

func (w *witness) List(context.Context) ([]string, error) { return w.volumes, nil }

func (w *witness) Source(context.Context, string, string) (storage.Source, error) {
	return storage.Source{}, nil
}

func (w *witness) Rename(_ context.Context, _ vm.Volume, to string) error {
	w.renamed = to
	return nil
}

func (w *witness) Remove(_ context.Context, v vm.Volume) error {
	w.removed = append(w.removed, v.Name)
	return nil
}

func (w *witness) RemoveUnused(_ context.Context, name string) error {
	w.removed = append(w.removed, name)
	return nil
}

// Whoever names a task as a kept volume is named loses nothing by it.
func TestNoVolumeOfAVMIsTakenForOneThatWasKept(t *testing.T) {
	w := &witness{}
	store := storage.New(map[string]storage.Pool{"nomad": w}, nil, 0)
	if err := store.Retire(t.Context(), vm.Volume{Pool: "nomad", Name: "disk", Keep: 1}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.renamed, "disk") {
		t.Fatalf("a kept disk is renamed to %q, want a name that holds its own", w.renamed)
	}
	r := newRequest(t, oneDisk)
	r.nomad.Name = w.renamed
	for _, v := range mustPlan(t, r).Volumes() {
		w.volumes = append(w.volumes, v.Name)
	}
	if _, err := store.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if len(w.removed) != 0 {
		t.Errorf("of the volumes %q of the task %q, which is in use, %q are taken for kept ones whose time is over, and removed",
			w.volumes, w.renamed, w.removed)
	}
}

// Where somebody undefines a domain, its name is all that is left of the VM.
func TestVolumesOfAVMAreFoundByItsName(t *testing.T) {
	directory, ceph := &witness{}, &witness{}
	pools := map[string]*witness{"nomad": directory, "remote": ceph}
	store := storage.New(map[string]storage.Pool{"nomad": directory, "remote": ceph}, nil, 0)
	r := newRequest(t, many("usb", 15)+`
		disk { chained = true source { image = "a.img" } }
		disk { chained = true source { volume = "golden.qcow2" } }
		disk { devname = "vdzz" format = "raw" size = "1MiB" }
		disk { bus_type = "ide" size = "1MiB" }
		disk { pool = "remote" bus_type = "scsi" size = "1MiB" }
		disk { pool = "remote" chained = true source { image = "a.img" } }
		disk { pool = "remote" source { volume = "golden" } }
		disk { kind = "cdrom" source { image = "a.iso" } }`)
	spec := mustPlan(t, r)
	want := make(map[string][]string)
	for _, v := range spec.Volumes() {
		want[v.Pool] = append(want[v.Pool], v.Name)
		if _, err := store.Source(t.Context(), v.Pool, v.Name, ""); err == nil {
			t.Errorf("%s can be the source of another task's disk, want it to be this VM's own", v.Name)
		}
	}
	for name, pool := range pools {
		pool.volumes = append([]string{"golden", spec.Disks[len(spec.Disks)-1].Volume.Name + ".bak"}, want[name]...)
	}
	for _, d := range spec.Disks {
		if d.Base != nil {
			pools[d.Base.Pool].volumes = append(pools[d.Base.Pool].volumes, d.Base.Name)
		}
	}
	if err := store.RemoveAllOf(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	for name, pool := range pools {
		if diff := cmp.Diff(want[name], pool.removed); diff != "" {
			t.Errorf("what is removed of the pool %s is not what the plan has made there for the VM (-want +got):\n%s", name, diff)
		}
	}
}
