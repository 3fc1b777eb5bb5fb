package doctor

import (
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

func TestTheDirectoryThatIsClosed(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	pool := filepath.Join(closed, "pool")
	if err := os.MkdirAll(pool, 0o755); err != nil {
		t.Fatal(err)
	}
	nobody := os.Geteuid() + 54321 // is in no group
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(pool, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(closed), filepath.Dir(filepath.Dir(closed))} { // the test's own are closed
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
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
	if p := gatherPlugin(dir); p.Err != nil || p.Other {
		t.Errorf("this program: %+v, want it to be known", p)
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
