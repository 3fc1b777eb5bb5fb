package driver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/storage"
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
		Roots:  []string{"/srv/a", "/srv/b", "/alloc-dir/alloc", "/alloc-dir/web"},
		Places: []string{"/srv/a", "/srv/b", "/alloc-dir", "/alloc-dir/web"},
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
	// Another task of the group, which Nomad may have given files of the host.
	others := writeFile(t, dir, "alloc-dir/other/etc/shadow", "other")
	large := writeFile(t, dir, "allowed/large", "")
	if err := os.Truncate(large, maxUserData+1); err != nil {
		t.Fatal(err)
	}
	roots, places := strings.Join(search.Roots, ", "), strings.Join(search.Places, ", ")

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
		{value: "none", fails: `"none": no such file in ` + places},
		{value: "other/etc/shadow", fails: `"other/etc/shadow" leads to ` + others +
			", outside of the directories that tasks may use: " + roots},
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

// searching is a task that finds its images and volumes below a directory.
func searching(dir string) (Config, *storage.Store, *drivers.TaskConfig) {
	config := Config{ImagePaths: []string{dir}, StoragePools: onePool("local", filepath.Join(dir, "pool"))}
	store := storage.New(map[string]storage.Pool{
		"local": &storage.Directory{Name: "local", Path: filepath.Join(dir, "pool")},
	}, nil, 0)
	return config, store, &drivers.TaskConfig{Name: "web", AllocDir: filepath.Join(dir, "alloc-dir")}
}

func TestEverythingThatCannotBeHadIsNamed(t *testing.T) {
	d, _ := newDriver(t)
	dir := t.TempDir()
	raw := writeFile(t, dir, "raw.img", strings.Repeat("x", 1024))
	empty := writeFile(t, dir, "empty.img", "")
	writeFile(t, dir, "pool/other.vmdk", "KDMV")
	writeFile(t, dir, "pool/web-5a6e215e-seed.iso", "another task's secrets")
	config, store, cfg := searching(dir)
	places := strings.Join(searchFor(cfg, []string{dir}).Places, ", ")

	f, p := d.find(t.Context(), config, store, TaskConfig{
		UserData: "none",
		Disks: []Disk{
			{Source: &DiskSource{Image: "none.img"}},
			{Source: &DiskSource{Image: "empty.img"}},
			{Source: &DiskSource{Image: raw, Format: "qcow2"}, Chained: true},
			{Source: &DiskSource{Volume: "none.img"}},
			{Source: &DiskSource{Volume: "../raw.img"}}, // the plan tells
			{Source: &DiskSource{Volume: "other.vmdk", Format: "raw"}},
			{Source: &DiskSource{Volume: "other.vmdk"}},
			{Source: &DiskSource{Volume: "none.img"}, Pool: "no pool"}, // the plan tells
			{Source: &DiskSource{Image: "pool/web-5a6e215e-seed.iso", Format: "raw"}},
			{Source: &DiskSource{Image: "none.img", Format: "ova"}}, // the plan tells
			{Source: &DiskSource{Image: "gone.img"}, Pool: "no pool"},
		},
	}, cfg)
	defer f.close()

	pool := config.StoragePools.Directory["local"].Path
	want := problems{
		`config.disk[0].source.image: "none.img": no such file in ` + places,
		"config.disk[1].source.image: " + empty + ": the image is empty",
		"config.disk[2].source.image: " + raw + ": the image is said to be qcow2 and is raw; " +
			"leave source.format out to have it detected",
		"config.disk[3].source.volume: storage pool local at " + pool + ` has no volume "none.img"; ` +
			"virsh vol-list local lists those it has: no such volume",
		"config.disk[6].source.volume: volume " + pool + "/other.vmdk: the image is cut off within its vmdk header; fetch it again",
		`config.disk[8].source.image: volume "web-5a6e215e-seed.iso" is a VM's own, which goes with its task or ` +
			"is kept for a look at it; give it, or a copy of it, another name to make disks from it",
		`config.disk[10].source.image: "gone.img": no such file in ` + places,
		`config.user_data: "none": no such file in ` + strings.Join(searchFor(cfg, nil).Places, ", "),
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("the problems (-want +got):\n%s", diff)
	}
	for i, s := range f.sources {
		if fine := i == 5; (s.image != nil) != fine || (s.volume != nil) != fine {
			t.Errorf("disk %d has the source %+v, want one: %t", i, s, fine)
		}
	}
}

func TestWhatATaskNamesIsOpenedAndJudged(t *testing.T) {
	d, _ := newDriver(t)
	dir := t.TempDir()
	raw := writeFile(t, dir, "raw.img", strings.Repeat("x", 1024))
	volume := writeFile(t, dir, "pool/golden.img", strings.Repeat("y", 2048))
	config, store, cfg := searching(dir)
	cfg.Mounts = []*drivers.MountConfig{{TaskPath: "/dev/vdz", HostPath: "/dev/null"}}

	f, p := d.find(t.Context(), config, store, TaskConfig{Disks: []Disk{
		{Size: "1GiB"},
		{Source: &DiskSource{Image: "raw.img"}},
		{Source: &DiskSource{Image: "raw.img"}, Chained: true},
		{Source: &DiskSource{Volume: "golden.img"}},
		{Source: &DiskSource{Volume: "golden.img"}, Chained: true},
		{Source: &DiskSource{Image: "raw.img"}, Volume: "/dev/vdz"},
		{Source: &DiskSource{Volume: "golden.img"}, Volume: "/dev/vdz"}, // the plan refuses it
	}}, cfg)
	defer f.close()
	if len(p) != 0 {
		t.Fatalf("there are problems, want none: %q", p)
	}

	type found struct {
		Image, Volume string // their paths
		Size          vm.Bytes
		Digest, Mount bool
	}
	var got []found
	for i, s := range f.sources {
		var one found
		if s.image != nil {
			one = found{Image: s.image.Path, Size: s.image.Size, Digest: len(s.image.Digest) == 32}
		}
		if s.volume != nil {
			one.Volume = s.volume.Path
		}
		one.Mount = s.mount != nil
		if is := f.files[i] != nil; is != (s.image != nil) {
			t.Errorf("disk %d has a file: %t, want one where there is something to copy: %t", i, is, s.image != nil)
		}
		got = append(got, one)
	}
	want := []found{
		{},
		{Image: raw, Size: 1024},
		{Image: raw, Size: 1024, Digest: true},
		{Image: volume, Volume: volume, Size: 2048},
		{Image: volume, Volume: volume, Size: 2048}, // nothing is named by its content
		{Image: raw, Size: 1024, Mount: true},
		{Mount: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the sources (-want +got):\n%s", diff)
	}
}

func TestImagesFollowTheirDisks(t *testing.T) {
	// Disks 0 and 3 have the same image: each was opened for itself.
	r := newRequest(t, `
		disk { source { image = "a.img" } }
		disk { size = "1MiB" }
		disk { primary = true source { image = "b.img" } }
		disk { source { image = "a.img" } }
		disk { source { volume = "c.img" } }
		disk { chained = true source { volume = "c.img" } }
		disk { volume = "/dev/vdz" source { image = "d.img" } }`)
	devices("/dev/vdz")(&r)
	f := &namedFiles{sources: r.sources, files: make([]*os.File, len(r.sources))}
	for i, s := range r.sources {
		if s.image != nil {
			f.files[i] = new(os.File)
		}
	}
	disks := mustPlan(t, r)
	got := f.inOrderOf(disks)
	for i, from := range []int{2, 0, 1, 3, 4, -1, 6} {
		var want *os.File
		if from >= 0 {
			want = f.files[from]
		}
		if got[i] != want {
			t.Errorf("disk %d of the VM (%s) is not filled from the image of disk %d of the job file", i, line(disks.Disks[i]), from)
		}
	}
}

func TestMountsAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	file, missing := writeFile(t, dir, "file", "x"), filepath.Join(dir, "missing")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	got := lookAtMounts([]*drivers.MountConfig{
		{TaskPath: "/a", HostPath: dir},
		{TaskPath: "/b", HostPath: link, Readonly: true},
		{TaskPath: "/c", HostPath: file},
		{TaskPath: "/d", HostPath: "/dev/null"},
		{TaskPath: "/e", HostPath: missing},
	})
	if err := got[4].err; err == nil || err.Error() != "the volume is not at "+missing+" on this host: stat "+missing+
		": no such file or directory" {
		t.Errorf("of a volume that is not there is told %v", err)
	}
	got[4].err = nil
	want := []mount{
		{taskPath: "/a", hostPath: dir, kind: mountsDirectory},
		{taskPath: "/b", hostPath: link, kind: mountsDirectory, readOnly: true},
		{taskPath: "/c", hostPath: file, kind: mountsNeither},
		{taskPath: "/d", hostPath: "/dev/null", kind: mountsNeither},
		{taskPath: "/e", hostPath: missing, kind: mountsNeither},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mount{})); diff != "" {
		t.Errorf("the mounts (-want +got):\n%s", diff)
	}
}
