package driver

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/vm"
)

// writeFile writes a file below a directory and returns its path.
func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesAreLookedForWhereTheOperatorAllowsAndInTheAllocation(t *testing.T) {
	allowed := append(make([]string, 0, 8), "/srv/a", "/srv/b")
	cfg := &drivers.TaskConfig{Name: "web", AllocDir: "/alloc-dir"}
	want := hostfile.Search{
		Roots: []string{"/srv/a", "/srv/b", "/alloc-dir", "/alloc-dir/web"},
		Guest: map[string]string{
			"/alloc":   "/alloc-dir/alloc",
			"/local":   "/alloc-dir/web/local",
			"/secrets": "/alloc-dir/web/secrets",
		},
	}
	if diff := cmp.Diff(want, searchFor(cfg, allowed)); diff != "" {
		t.Errorf("where files may be (-want +got):\n%s", diff)
	}
	if got := allowed[:4][2]; got != "" {
		t.Errorf("the operator's directories have grown by %s, want them to be left alone", got)
	}
}

func TestUserDataIsADocumentOrThePathOfOne(t *testing.T) {
	dir := t.TempDir()
	cfg := &drivers.TaskConfig{Name: "web", AllocDir: filepath.Join(dir, "alloc-dir")}
	search := searchFor(cfg, []string{filepath.Join(dir, "allowed")})
	allowed := writeFile(t, dir, "allowed/user-data", "allowed")
	writeFile(t, dir, "alloc-dir/web/local/user-data", "local")
	writeFile(t, dir, "alloc-dir/alloc/user-data", "alloc")
	outside := writeFile(t, dir, "outside", "outside")
	large := writeFile(t, dir, "allowed/large", "")
	if err := os.Truncate(large, maxUserData+1); err != nil {
		t.Fatal(err)
	}
	roots := strings.Join(search.Roots, ", ")

	for _, test := range []struct{ value, want, fails string }{
		{value: "", want: ""},
		{value: "#cloud-config", want: "#cloud-config"},
		{value: "#!/bin/sh\ndate\n", want: "#!/bin/sh\ndate\n"},
		{value: "MIME-Version: 1.0\n\n", want: "MIME-Version: 1.0\n\n"},
		{value: "user-data", want: "allowed"},
		{value: allowed, want: "allowed"},
		{value: "local/user-data", want: "local"},
		{value: "/local/user-data", want: "local"},
		{value: "alloc/user-data", want: "alloc"},
		{value: "/alloc/user-data", want: "alloc"},
		{value: "none", fails: `"none": no such file in ` + roots},
		{value: outside, fails: `"` + outside + `" leads to ` + outside +
			", outside of the directories that tasks may use: " + roots},
		{value: "large", fails: large + " is larger than 16MiB"},
	} {
		got, err := readUserData(test.value, search)
		if diff := diffError(test.fails, err); diff != "" {
			t.Errorf("the error of %q (-want +got):\n%s", test.value, diff)
		}
		if string(got) != test.want {
			t.Errorf("user data %q is %q, want %q", test.value, got, test.want)
		}
	}
}

func TestEveryFileThatCannotBeHadIsNamed(t *testing.T) {
	d, _ := newDriver(t)
	dir := t.TempDir()
	raw := writeFile(t, dir, "raw.img", strings.Repeat("x", 1024))
	empty := writeFile(t, dir, "empty.img", "")
	cfg := &drivers.TaskConfig{Name: "web", AllocDir: filepath.Join(dir, "alloc-dir")}
	roots := strings.Join(searchFor(cfg, []string{dir}).Roots, ", ")

	f, p := d.openFiles(t.Context(), Config{ImagePaths: []string{dir}}, TaskConfig{
		UserData: "none",
		Disks: []Disk{
			{Size: "1GiB"},
			{Source: &DiskSource{Image: "none.img"}},
			{Source: &DiskSource{Image: "raw.img"}, Chained: true},
			{Source: &DiskSource{Image: "empty.img"}},
			{Source: &DiskSource{Image: raw, Format: "qcow2"}},
		},
	}, cfg)
	defer f.close()

	userRoots := strings.Join(searchFor(cfg, nil).Roots, ", ")
	want := []string{
		`config.disk[1].source.image: "none.img": no such file in ` + roots,
		"config.disk[3].source.image: " + empty + ": the image is empty",
		"config.disk[4].source.image: " + raw + ": the image is said to be qcow2 and is raw; " +
			"leave source.format out to have it detected",
		`config.user_data: "none": no such file in ` + userRoots,
	}
	if diff := cmp.Diff(want, []string(p)); diff != "" {
		t.Errorf("the problems (-want +got):\n%s", diff)
	}
	got := f.inspected[2]
	if got == nil || f.images[2] == nil {
		t.Fatal("the image that is there was not opened")
	}
	if got.Path != raw || got.Format != "raw" || got.Size != 1024 || len(got.Digest) != 32 {
		t.Errorf("the image is %+v, want %s, raw, of 1024 bytes, with a digest of 32 digits", *got, raw)
	}
	for i, inspected := range f.inspected {
		if i != 2 && inspected != nil {
			t.Errorf("disk %d has the image %+v, want none", i, *inspected)
		}
	}
}

func TestImagesFollowTheirDisks(t *testing.T) {
	// Disks 0 and 3 have the same image: each was opened for itself.
	r := newRequest(t, `
		disk { source { image = "a.img" } }
		disk { size = 512 }
		disk { primary = true source { image = "b.img" } }
		disk { source { image = "a.img" } }`)
	f := &files{inspected: r.images, images: make([]*os.File, len(r.images))}
	for i, inspected := range r.images {
		if inspected != nil {
			f.images[i] = new(os.File)
		}
	}
	got := f.inOrderOf(mustPlan(t, r))
	for i, from := range []int{2, 0, 1, 3} {
		if got[i] != f.images[from] {
			t.Errorf("disk %d of the VM is not filled from the image of disk %d of the job file", i, from)
		}
	}
}

func TestDriverNetworkIsTheFirstInterface(t *testing.T) {
	first, second := netip.MustParseAddr("192.168.122.5"), netip.MustParseAddr("10.0.7.5")
	for _, test := range []struct {
		name       string
		interfaces []vm.Interface
		addrs      []netip.Addr
		want       *drivers.DriverNetwork
	}{
		{name: "no interface"},
		{
			name:       "no ports",
			interfaces: []vm.Interface{{}},
			addrs:      []netip.Addr{first},
			want:       &drivers.DriverNetwork{IP: "192.168.122.5", PortMap: map[string]int{}},
		},
		{
			name: "ports of every interface, by the number in the guest",
			interfaces: []vm.Interface{
				{Ports: []vm.Port{{Label: "http", Guest: 8000}, {Label: "ssh", Guest: 22}}},
				{Ports: []vm.Port{{Label: "db", Guest: 5432}}},
			},
			addrs: []netip.Addr{first, second},
			want: &drivers.DriverNetwork{
				IP:      "192.168.122.5",
				PortMap: map[string]int{"http": 8000, "ssh": 22, "db": 5432},
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := driverNetwork(&vm.Spec{Interfaces: test.interfaces}, test.addrs)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the network (-want +got); AutoAdvertise has to be off:\n%s", diff)
			}
		})
	}
}
