package domxml

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	if p, err := ParsePool(document); err != nil || p.Type != "dir" || p.Path != "/var/lib/virt/storage" {
		t.Errorf("it is read back as %+v, %v", p, err)
	}
}

func TestPathOfAPool(t *testing.T) {
	for _, test := range []struct {
		name, document, want string
		fails                bool
	}{
		{"a directory", "<pool type='dir'><name>a</name><source/><target><path>/srv/a &amp; b</path></target></pool>", "/srv/a & b", false},
		{"a Ceph pool", "<pool type='rbd'><name>c</name><source><name>rbd</name></source></pool>", "", false},
		{"no XML", "pool", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParsePool(test.document)
			if got.Path != test.want || (err != nil) != test.fails {
				t.Errorf("got %q, %v, want %q", got.Path, err, test.want)
			}
		})
	}
}

var ceph = vm.RBD{
	Pool:     "nomad-pool",
	Monitors: []string{"10.0.0.1:3300", "[fd99::2]:6789", "mon.example:3300"},
	User:     "nomad",
	Secret:   SecretUUID("ceph"),
}

func TestCephPool(t *testing.T) {
	document, err := CephPool("ceph", ceph)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pool-ceph.xml", document)
	p, err := ParsePool(document)
	if diff := cmp.Diff(Pool{Name: "ceph", Type: "rbd", RBD: ceph}, p); err != nil || diff != "" {
		t.Errorf("it is not read back as it was, %v (-want +got):\n%s", err, diff)
	}
}

func TestAMonitorWithoutAPortIsRefused(t *testing.T) {
	r := ceph
	r.Monitors = []string{"10.0.0.1:3300", "fd99::2"}
	if _, err := CephPool("ceph", r); err == nil || !strings.Contains(err.Error(), "fd99::2") {
		t.Errorf("%v, want an error that names the monitor", err)
	}
}

func TestSecret(t *testing.T) {
	document, err := Secret(SecretUUID("ceph"), "ceph")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "secret.xml", document)
}

func TestSecretUUID(t *testing.T) {
	// Computed by Python: uuid.uuid5(uuid.NAMESPACE_URL, "nomad-driver-virt:pool:ceph").
	if got, want := SecretUUID("ceph"), "d503b8d3-315e-5d31-b357-9dff78938902"; got != want {
		t.Errorf("%s, want %s: a host that has the pool has this secret", got, want)
	}
	version5 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]string)
	for _, pool := range []string{"", "a", "b", "ceph", "Ceph", strings.Repeat("long", 100)} {
		uuid := SecretUUID(pool)
		if !version5.MatchString(uuid) {
			t.Errorf("%q has %s, want a version 5", pool, uuid)
		}
		if other, taken := seen[uuid]; taken {
			t.Errorf("%q and %q have the same secret", pool, other)
		}
		seen[uuid] = pool
	}
}

func TestParsePool(t *testing.T) {
	for _, test := range []struct {
		name, document string
		want           Pool
		fails          bool
	}{
		{"a directory", "<pool type='dir'><name>a</name><source/><target><path>/srv/a</path></target></pool>",
			Pool{Name: "a", Type: "dir", Path: "/srv/a"}, false},
		{"a Ceph pool of somebody else's", `<pool type="rbd"><source><host name="mon.example"/><host name="::1" port="6789"/><name>p</name>
			<auth type="ceph" username="admin"><secret usage="x"/></auth></source></pool>`,
			Pool{Type: "rbd", RBD: vm.RBD{Pool: "p", Monitors: []string{"mon.example:", "[::1]:6789"}, User: "admin"}}, false},
		{"a Ceph pool that asks for no key", "<pool type='rbd'><source><name>p</name></source></pool>",
			Pool{Type: "rbd", RBD: vm.RBD{Pool: "p"}}, false},
		{"another network's", "<pool type='iscsi'><source><host name='h'/><device path='d'/></source><target><path>/dev</path></target></pool>",
			Pool{Type: "iscsi", Path: "/dev"}, false},
		{"nothing but a type", "<pool type='rbd'/>", Pool{Type: "rbd"}, false},
		{"no XML", "pool", Pool{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParsePool(test.document)
			if (err != nil) != test.fails {
				t.Fatalf("%v, want an error: %t", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParsePoolTypes(t *testing.T) {
	const document = `<storagepoolCapabilities>
  <pool type='dir' supported='yes'>
    <volOptions>
      <defaultFormat type='raw'/>
      <enum name='targetFormatType'>
        <value>none</value>
      </enum>
    </volOptions>
  </pool>
  <pool type='rbd' supported='no'>
  </pool>
  <pool type='iscsi' supported='yes'/>
</storagepoolCapabilities>`
	got, err := ParsePoolTypes(document)
	if diff := cmp.Diff([]string{"dir", "iscsi"}, got); diff != "" || err != nil {
		t.Errorf("the types (-want +got):\n%s%v", diff, err)
	}
	for _, bad := range []string{"", "no XML", "<pool type='dir' supported='yes'/>"} {
		if got, err := ParsePoolTypes(bad); err == nil {
			t.Errorf("%q is understood as %q", bad, got)
		}
	}
}
