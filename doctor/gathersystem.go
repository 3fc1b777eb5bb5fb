package doctor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-virt/systemd"
)

// gatherSystem looks below root, which is / but for tests.
func gatherSystem(root string) System {
	content, _ := os.ReadFile(filepath.Join(root, "etc/os-release"))
	release := settingsOf(string(content))
	families := append(strings.Fields(release["ID_LIKE"]), release["ID"])
	redHat := slices.Contains(families, "rhel") || slices.Contains(families, "fedora")
	_, err := os.Stat(filepath.Join(root, defaultNetwork))
	return System{
		RedHat:         redHat,
		Modular:        modular(root, redHat),
		NoLibvirt:      !hasUnit(root, "libvirtd") && !hasUnit(root, "virtqemud") && !hasDaemon(root),
		DefaultNetwork: err == nil,
	}
}

// defaultNetwork is where distributions have what libvirt's network default is made
// from.
const defaultNetwork = "/usr/share/libvirt/networks/default.xml"

// hasUnit tells whether systemd could start a daemon.
func hasUnit(root, daemon string) bool {
	units, _ := filepath.Glob(filepath.Join(root, "usr/lib/systemd/system", daemon+".s*"))
	return len(units) > 0
}

// hasDaemon tells of a libvirt that something else than systemd starts.
func hasDaemon(root string) bool {
	for _, program := range []string{"usr/sbin/libvirtd", "usr/sbin/virtqemud"} {
		if _, err := os.Stat(filepath.Join(root, program)); err == nil {
			return true
		}
	}
	return false
}

// modular tells whether virtqemud has the VMs, rather than libvirtd: the one that
// starts with the host. Where neither does, it is as the distribution means it, if
// that has both.
func modular(root string, redHat bool) bool {
	starts := func(unit string) bool {
		links, _ := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants", unit+".s*"))
		return len(links) > 0
	}
	switch {
	case starts("libvirtd"):
		return false
	case starts("virtqemud"):
		return true
	case hasUnit(root, "libvirtd") == hasUnit(root, "virtqemud"):
		return redHat
	}
	return hasUnit(root, "virtqemud")
}

// libvirtGuestsPrograms are where the program of the service is, which has the defaults of its
// settings: distributions change them.
var libvirtGuestsPrograms = []string{"usr/libexec/libvirt-guests.sh", "usr/lib/libvirt/libvirt-guests.sh"}

// gatherGuests looks at how VMs end with the host.
func gatherGuests(ctx context.Context, root string, s System) LibvirtGuests {
	g := guestsSettings(root, s)
	g.Active, g.Err = systemd.Active(ctx, "libvirt-guests.service")
	return g
}

// guestsSettings are the defaults, and what the file of settings says instead.
func guestsSettings(root string, s System) LibvirtGuests {
	// What libvirt's own program begins with.
	g := LibvirtGuests{Set: map[string]string{"ON_BOOT": "start", "ON_SHUTDOWN": "suspend", "PARALLEL_SHUTDOWN": "0"}}
	take := func(content string) {
		for name, value := range settingsOf(content) {
			if _, matters := g.Set[name]; matters {
				g.Set[name] = value
			}
		}
	}
	for _, program := range libvirtGuestsPrograms {
		if content, err := os.ReadFile(filepath.Join(root, program)); err == nil {
			defaults, _, _ := strings.Cut(string(content), "()") // it has functions after them
			take(defaults)
			break
		}
	}
	files := []string{"/etc/default/libvirt-guests", "/etc/sysconfig/libvirt-guests"}
	if s.RedHat {
		slices.Reverse(files)
	}
	g.File = files[0]
	for _, file := range files {
		if content, err := os.ReadFile(filepath.Join(root, file)); err == nil {
			g.File = file
			take(string(content))
			break
		}
	}
	return g
}

// settingsOf reads a file of shell variables.
func settingsOf(content string) map[string]string {
	set := make(map[string]string)
	for line := range strings.Lines(content) {
		name, value, is := strings.Cut(strings.TrimSpace(line), "=")
		if is && !strings.HasPrefix(name, "#") {
			set[name] = strings.Trim(value, `"'`)
		}
	}
	return set
}
