package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestDenials(t *testing.T) {
	for _, test := range []struct {
		name, message string
		want          Denial
		is            bool
	}{
		{
			"QEMU and a disk",
			`5,1234,9876,-;audit: type=1400 audit(1700000000.1:99): apparmor="DENIED" operation="open" class="file" ` +
				`profile="libvirt-1d020dfc-2831-45e8-865f-bce467a8223f" name="/mnt/pool/a.qcow2" pid=1 comm="qemu-system-x86" requested_mask="wr" denied_mask="r"`,
			Denial{"libvirt-1d020dfc-2831-45e8-865f-bce467a8223f", "/mnt/pool/a.qcow2", "r", time.Unix(1_700_000_000, 0)},
			true,
		},
		{
			"the helper, and a path with a space",
			`type=AVC msg=audit(1.1:9): apparmor="DENIED" operation="open" profile="virt-aa-helper" name=2F6D6E742F6120622E696D67 pid=1`,
			Denial{"virt-aa-helper", "/mnt/a b.img", "", time.Unix(1, 0)},
			true,
		},
		{"another program", `apparmor="DENIED" profile="/usr/sbin/ntpd" name="/mnt/pool/a"`, Denial{}, false},
		{"what was allowed", `apparmor="ALLOWED" profile="libvirt-1" name="/mnt/pool/a"`, Denial{}, false},
		{"no file", `apparmor="DENIED" operation="capable" profile="libvirt-1" capability=12`, Denial{}, false},
		{"something else", "oom-kill:constraint=CONSTRAINT_NONE", Denial{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, is := denialIn(test.message); got != test.want || is != test.is {
				t.Errorf("got %+v, %t, want %+v, %t", got, is, test.want, test.is)
			}
		})
	}
}

func TestDenialsOfAKindAreOne(t *testing.T) {
	first, last := denial("/a", time.Unix(1, 0)), denial("/a", time.Unix(3, 0))
	var all []Denial
	for _, d := range []Denial{first, denial("/b", time.Unix(2, 0)), last, first} {
		all = withDenial(all, d)
	}
	if diff := cmp.Diff([]Denial{last, denial("/b", time.Unix(2, 0))}, all); diff != "" {
		t.Errorf("the denials (-want +got):\n%s", diff)
	}
}

func TestSettings(t *testing.T) {
	got := settingsOf("# a comment\n#ON_BOOT=start\nON_SHUTDOWN=shutdown\n PARALLEL_SHUTDOWN=\"10\"\n\nnothing\n")
	want := map[string]string{"ON_SHUTDOWN": "shutdown", "PARALLEL_SHUTDOWN": "10"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the settings (-want +got):\n%s", diff)
	}
	if got := confOf("#firewall_backend = \"iptables\"\nfirewall_backend = \"nftables\"\n", "firewall_backend"); strings.TrimSpace(got) != `"nftables"` {
		t.Errorf("the back end is %q", got)
	}
}

// openDir makes a directory that all users get to: the test's own are closed.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheDirectoryThatIsClosed(t *testing.T) {
	closed := filepath.Join(openDir(t), "closed")
	pool := filepath.Join(closed, "pool")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := os.Geteuid() + 54321 // is in no group
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(pool, link); err != nil {
		t.Fatal(err)
	}
	if got := closedTo(pool, nobody, nil); got != "" {
		t.Errorf("%s keeps a user from %s, want none to", got, pool)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pool, link} {
		if got := closedTo(path, nobody, nil); got != closed {
			t.Errorf("%q keeps a user from %s, want %s to", got, path, closed)
		}
	}
	named := encoded(acl{{aclOwner, 7, 0}, {aclUser, aclSearch, uint32(nobody)}, {aclOwningGroup, 0, 0}, {aclMask, aclSearch, 0}, {aclOther, 0, 0}})
	if err := unix.Setxattr(closed, aclAttribute, named, 0); err != nil {
		t.Fatal(err)
	}
	if got := closedTo(pool, nobody, nil); got != "" {
		t.Errorf("%s keeps a user from %s whom its list lets through", got, pool)
	}
	if got := closedTo(pool, nobody+1, nil); got != closed {
		t.Errorf("%q keeps a user from %s whom the list of %s does not name", got, pool, closed)
	}
	if got := closedTo(pool, 0, nil); got != "" {
		t.Errorf("%s keeps root from %s", got, pool)
	}
}

func TestLookAtDirectories(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := lookAt(dir); d.Err != nil || d.Missing || d.Size == 0 || d.Free > d.Size {
		t.Errorf("a directory was seen as %+v", d)
	}
	if d := lookAt(filepath.Join(dir, "none")); !d.Missing {
		t.Errorf("nothing was seen as %+v", d)
	}
	if d := lookAt(file); d.Err == nil {
		t.Errorf("a file was seen as %+v", d)
	}
}

func TestADirectoryThatIsMissingIsJudgedByWhereItWouldBe(t *testing.T) {
	dir := openDir(t)
	closed, link, file := filepath.Join(dir, "closed"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(os.Mkdir(closed, 0o700), os.Symlink(filepath.Join(dir, "nothing"), link), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, path  string
		missing, is bool   // missing, and whether a directory can be there
		at          string // it, or where it would be made
	}{
		{"one that is there", closed, false, true, closed},
		{"one that is missing", filepath.Join(closed, "pool"), true, true, closed},
		{"one whose parents are missing", filepath.Join(closed, "a", "b", "pool") + "/", true, true, closed},
		{"a link to nothing", link, true, false, link},
		{"below a link to nothing", filepath.Join(link, "pool"), true, false, link},
		{"below a file", filepath.Join(file, "pool"), false, false, filepath.Join(file, "pool")},
	} {
		got := lookAtNearest(test.path)
		if got.Missing != test.missing || (got.Err == nil) != test.is || got.At != test.at || test.is && got.Size == 0 {
			t.Errorf("%s was seen as %+v, want it missing: %t, possible: %t, looked at in %s", test.name, got, test.missing, test.is, test.at)
		}
	}
	pool := filepath.Join(closed, "pool")
	settings, nobody := Settings{Pools: []Pool{{Path: pool}}}, Libvirt{}
	nobody.Runs.User, nobody.Runs.Group = os.Geteuid()+54321, os.Geteuid()+54321
	if got := gatherDirectories(settings, nobody)[pool]; !got.Missing || got.Closed != closed {
		t.Errorf("a pool below a closed directory was seen as %+v, want %s to keep QEMU from it", got, closed)
	}
}

func TestPluginInItsDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, pluginFile)
	if p := gatherPlugin(dir); p.Err == nil {
		t.Errorf("an empty directory: %+v, want an error", p)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p := gatherPlugin(dir); p.Err == nil {
		t.Errorf("a file that is not executable: %+v, want an error", p)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if p := gatherPlugin(dir); p.Err != nil || !p.Other {
		t.Errorf("another program: %+v, want it to be told from this one", p)
	}
	own, err := os.Executable()
	if err == nil {
		err = os.Remove(path)
	}
	if err == nil {
		err = os.Symlink(own, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p := gatherPlugin(dir); p.Err != nil || p.Other || p.Own != own {
		t.Errorf("this program, %s: %+v, want it to be known", own, p)
	}
}

func TestPluginsThatAreLeftBehind(t *testing.T) {
	own, data := t.TempDir(), t.TempDir()
	plugins := filepath.Join(data, "plugins")
	program := func(path string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o755)); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	left := func(want ...string) {
		t.Helper()
		dir, got := pluginsLeft(Agent{DataDir: data, PluginDir: own})
		if diff := cmp.Diff(want, got); diff != "" || dir != plugins {
			t.Errorf("in %s is left (-want +got):\n%s", dir, diff)
		}
	}
	left() // there is no such directory
	program(filepath.Join(own, "elsewhere"))
	if err := os.MkdirAll(filepath.Join(plugins, "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(plugins, "README"), nil, 0o600),
		os.Symlink(filepath.Join(own, "elsewhere"), filepath.Join(plugins, "linked")),
		os.Symlink(filepath.Join(own, "nothing"), filepath.Join(plugins, "dangling"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{pluginFile, "both", "podman"} {
		program(filepath.Join(plugins, name))
	}
	program(filepath.Join(own, "both"))
	left("linked", "podman")

	for name, agent := range map[string]Agent{
		"no plugin_dir of its own": {DataDir: data, PluginDir: plugins + "/"},
		"no data_dir":              {PluginDir: own},
	} {
		if _, got := pluginsLeft(agent); len(got) > 0 {
			t.Errorf("%s: %v is left, want nothing", name, got)
		}
	}
}

func TestCgroups(t *testing.T) {
	dir := t.TempDir()
	if version, shares := gatherCgroups(dir); version != 0 || shares {
		t.Errorf("an empty directory: version %d, shares %t", version, shares)
	}
	if err := os.MkdirAll(filepath.Join(dir, "cpu"), 0o755); err != nil {
		t.Fatal(err)
	}
	if version, shares := gatherCgroups(dir); version != 1 || shares {
		t.Errorf("without the controller's files: version %d, shares %t", version, shares)
	}
	if err := os.WriteFile(filepath.Join(dir, "cpu", "cpu.shares"), []byte("1024"), 0o600); err != nil {
		t.Fatal(err)
	}
	if version, shares := gatherCgroups(dir); version != 1 || !shares {
		t.Errorf("version 1: version %d, shares %t", version, shares)
	}
}
