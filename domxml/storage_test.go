package domxml

import (
	"testing"

	"nomad-driver-virt/vm"
)

func TestVolume(t *testing.T) {
	full := volume("disk.img", "raw", vm.GiB)
	full.Sparse = false
	base := volume("base.qcow2", "qcow2", 2*vm.GiB)
	for _, test := range []struct {
		golden string
		volume vm.Volume
		base   *vm.Volume
	}{
		{"volume-sparse.xml", volume("disk.qcow2", "qcow2", 10*vm.GiB), nil},
		{"volume-overlay.xml", volume("disk.qcow2", "qcow2", 10*vm.GiB), &base},
		{"volume-full.xml", full, nil},
	} {
		t.Run(test.golden, func(t *testing.T) {
			document, err := Volume(test.volume, test.base)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, test.golden, document)
		})
	}
}

func TestDirectoryPool(t *testing.T) {
	document, err := DirectoryPool("nomad", "/var/lib/virt/storage")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pool.xml", document)
	if path, err := ParsePoolPath(document); err != nil || path != "/var/lib/virt/storage" {
		t.Errorf("its path is read back as %q, %v", path, err)
	}
}

func TestParsePoolPath(t *testing.T) {
	for _, test := range []struct {
		name, document, want string
		fails                bool
	}{
		{"a directory", "<pool type='dir'><name>a</name><source/><target><path>/srv/a &amp; b</path></target></pool>", "/srv/a & b", false},
		{"a Ceph pool", "<pool type='rbd'><name>c</name><source><name>rbd</name></source></pool>", "", false},
		{"no XML", "pool", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParsePoolPath(test.document)
			if got != test.want || (err != nil) != test.fails {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}
