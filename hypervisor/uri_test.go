package hypervisor

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSocketsOf(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/1000")
	system := []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"}
	session := []string{"/run/user/1000/libvirt/libvirt-sock", "/run/user/1000/libvirt/virtqemud-sock"}
	for _, test := range []struct {
		uri     string
		want    []string
		refused string // what the error has to say
	}{
		{"qemu:///system", system, ""},
		{"qemu+unix:///system", system, ""},
		{"qemu:///session", session, ""},
		{"test:///default", []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virttestd-sock"}, ""},
		{"qemu:///system?socket=/srv/libvirt-sock", []string{"/srv/libvirt-sock"}, ""},
		{"qemu+unix:///system?mode=legacy&socket=/srv/a", []string{"/srv/a"}, ""},

		{"qemu+ssh://root@10.0.0.1/system", nil, "manages the VMs of its own host"},
		{"qemu://10.0.0.1/system", nil, "manages the VMs of its own host"},
		{"qemu+tcp:///system", nil, "manages the VMs of its own host"},
		{"qemu://10.0.0.1/system?socket=/srv/a", nil, "manages the VMs of its own host"},
		{"", nil, "write it like qemu:///system"},
		{"/run/libvirt/libvirt-sock", nil, "write it like qemu:///system"},
		{"://", nil, "cannot be read: missing protocol scheme"},
		{"qemu:///\x7f", nil, "cannot be read"},
	} {
		t.Run(test.uri, func(t *testing.T) {
			got, err := socketsOf(test.uri)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %q and the error %v, want an error that says %q", got, err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSessionSocketWithoutARuntimeDirectory(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "")
	got, err := socketsOf("qemu:///session")
	if err != nil || !strings.HasPrefix(got[0], "/run/user/") || !strings.HasSuffix(got[0], "/libvirt/libvirt-sock") {
		t.Errorf("got %q, %v, want the user's directory below /run/user", got, err)
	}
}
