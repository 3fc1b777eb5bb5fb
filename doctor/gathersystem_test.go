package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostWith makes a directory that has files of some contents.
func hostWith(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestSystems(t *testing.T) {
	const (
		release = "etc/os-release"
		debian  = "ID=debian\n"
		alma    = "ID=\"almalinux\"\nID_LIKE=\"rhel centos fedora\"\n"
		units   = "usr/lib/systemd/system/"
		wanted  = "etc/systemd/system/sockets.target.wants/"
	)
	for _, test := range []struct {
		name  string
		files map[string]string
		want  System
	}{
		{"Debian", map[string]string{release: debian, units + "libvirtd.service": ""}, System{}},
		{"Debian with both", map[string]string{release: debian, units + "libvirtd.service": "", units + "virtqemud.socket": ""}, System{}},
		{"Debian with virtqemud alone", map[string]string{release: debian, units + "virtqemud.socket": ""}, System{Modular: true}},
		{"AlmaLinux", map[string]string{release: alma, units + "libvirtd.service": "", units + "virtqemud.socket": ""}, System{RedHat: true, Modular: true}},
		{"AlmaLinux that was upgraded", map[string]string{release: alma, wanted + "libvirtd.socket": "", units + "virtqemud.socket": ""}, System{RedHat: true}},
		{"Debian that starts virtqemud", map[string]string{release: debian, wanted + "virtqemud.socket": "", units + "libvirtd.service": ""}, System{Modular: true}},
		{"Fedora without libvirt", map[string]string{release: "ID=fedora\n"}, System{RedHat: true, Modular: true, NoLibvirt: true}},
		{"libvirt without systemd", map[string]string{"usr/sbin/libvirtd": ""}, System{}},
		{"the definition of a network", map[string]string{release: debian, "usr/share/libvirt/networks/default.xml": ""}, System{NoLibvirt: true, DefaultNetwork: true}},
		{"nothing", nil, System{NoLibvirt: true}},
	} {
		if got := gatherSystem(hostWith(t, test.files)); got != test.want {
			t.Errorf("%s is seen as %+v, want %+v", test.name, got, test.want)
		}
	}
}

// Distributions change libvirt's defaults in the program, and comment them out in the
// file of settings.
func TestSettingsOfLibvirtGuests(t *testing.T) {
	const (
		program = `#!/bin/sh
ON_BOOT="ignore"
ON_SHUTDOWN="shutdown"
SHUTDOWN_TIMEOUT=300
PARALLEL_SHUTDOWN=0

retval() {
ON_BOOT=start
}
`
		comments = "#ON_BOOT=start\n#ON_SHUTDOWN=suspend\n"
	)
	for _, test := range []struct {
		name  string
		files map[string]string
		on    System
		want  LibvirtGuests
	}{
		{
			"Debian as it comes", map[string]string{"usr/lib/libvirt/libvirt-guests.sh": program, "etc/default/libvirt-guests": comments}, System{},
			LibvirtGuests{File: "/etc/default/libvirt-guests", Set: map[string]string{"ON_BOOT": "ignore", "ON_SHUTDOWN": "shutdown", "PARALLEL_SHUTDOWN": "0"}},
		},
		{
			"what somebody has set", map[string]string{"usr/libexec/libvirt-guests.sh": program, "etc/default/libvirt-guests": "ON_BOOT=start\nPARALLEL_SHUTDOWN=10\n"}, System{},
			LibvirtGuests{File: "/etc/default/libvirt-guests", Set: map[string]string{"ON_BOOT": "start", "ON_SHUTDOWN": "shutdown", "PARALLEL_SHUTDOWN": "10"}},
		},
		{
			"Red Hat's without a file", nil, System{RedHat: true},
			LibvirtGuests{File: "/etc/sysconfig/libvirt-guests", Set: map[string]string{"ON_BOOT": "start", "ON_SHUTDOWN": "suspend", "PARALLEL_SHUTDOWN": "0"}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, guestsSettings(hostWith(t, test.files), test.on)); diff != "" {
				t.Errorf("the settings (-want +got):\n%s", diff)
			}
		})
	}
}
