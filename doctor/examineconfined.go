package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func (a *findings) confinement(s Settings, f Facts) {
	const subject = "confinement"
	if denial, is := inTheWay(f.Security.Denied, nomadDirectories(s)); is {
		a.denied(denial, f.Now)
		return
	}
	confined := strings.Join(f.Libvirt.Runs.Confined, ", ")
	switch {
	case confined == "":
		a.ok(subject, "neither AppArmor nor SELinux keeps QEMU from files")
	case slices.Contains(f.Libvirt.Runs.Confined, "selinux"):
		a.selinux(s, f.Security)
	case f.Security.Log != nil:
		a.warn(subject, asRoot, "%s confines QEMU; whether it has refused anything is in the kernel's log: %s", confined, f.Security.Log)
	default:
		a.ok(subject, "%s confines QEMU, and has refused it none of the driver's directories", confined)
	}
}

// selinux judges labels. What SELinux has refused is not looked for: its messages name
// a file without its directory.
func (a *findings) selinux(s Settings, found Security) {
	const subject = "confinement"
	if !found.Enforcing {
		a.ok(subject, "SELinux confines QEMU, and is permissive: it refuses nothing")
		return
	}
	good := true
	for _, l := range labelled(s) {
		label := found.Labels[l.dir]
		if label == "" || l.allows(label) {
			continue
		}
		good = false
		a.warn(subject, fmt.Sprintf("semanage fcontext -a -t %s '%s(/.*)?' && restorecon -R %s (semanage is in policycoreutils-python-utils)", l.types[0], l.dir, l.dir),
			"SELinux confines QEMU, and %s is labelled %q, %s", l.dir, label, l.why)
	}
	if good {
		a.ok(subject, "SELinux confines QEMU; whether it has refused it anything is unchecked, and told by: ausearch -m avc -ts recent")
	}
}

// labelledDir is a directory of which SELinux has to know that it is for VMs.
type labelledDir struct {
	dir   string
	types []string // that do, of which the first is to be given
	why   string   // others do not
}

// labelled are the directories whose labels matter.
func labelled(s Settings) []labelledDir {
	var all []labelledDir
	if s.Agent != nil && s.Agent.DataDir != "" {
		all = append(all, labelledDir{filepath.Join(s.Agent.DataDir, "alloc"), forGuests, "of which VMs may not read what tasks have there"})
	}
	for _, p := range s.Pools {
		if p.Path != "" && s.Agent != nil {
			all = append(all, labelledDir{filepath.Clean(p.Path), forVolumes, "in which libvirt may make no volumes"})
		}
	}
	return all
}

// Types of SELinux's policy. File systems without labels have one each, and a switch
// by which VMs may use all of them.
var (
	forGuests  = []string{"virt_content_t", "svirt_image_t"}
	forVolumes = []string{"virt_image_t", "svirt_image_t", "virt_content_t", "nfs_t", "cifs_t", "fusefs_t"}
)

// allows judges a label, user:role:type:level.
func (d labelledDir) allows(label string) bool {
	parts := strings.Split(label, ":")
	return len(parts) > 2 && slices.Contains(d.types, parts[2])
}

// freshDenial is how long a refusal is a problem. It stays in the log when it is
// mended.
const freshDenial = time.Hour

func (a *findings) denied(d Denial, now time.Time) {
	const subject = "confinement"
	if d.At.IsZero() || now.Sub(d.At) <= freshDenial {
		a.problem(subject, d.mend(), "AppArmor has refused %s (profile %s)", d.Path, d.Profile)
		return
	}
	a.warn(subject, "nothing, if that was mended since; otherwise "+d.mend(),
		"AppArmor has refused %s (profile %s) at %s, and nothing of the driver's since", d.Path, d.Profile, d.At.UTC().Format(time.RFC3339))
}

// inTheWay finds the last refusal that is about one of some directories.
func inTheWay(denied []Denial, dirs []string) (last Denial, found bool) {
	for _, d := range denied {
		for _, dir := range dirs {
			if is := d.Path == dir || strings.HasPrefix(d.Path, dir+"/"); is && (!found || d.At.IsZero() || d.At.After(last.At) && !last.At.IsZero()) {
				last, found = d, true
			}
		}
	}
	return last, found
}

// mend is for volumes first that were put into a pool by hand: libvirt's helper gives
// rules for what has names that it knows. A rule in the abstraction is for all VMs.
func (d Denial) mend() string {
	file := "/etc/apparmor.d/local/abstractions/libvirt-qemu, which lets all VMs do that"
	if !strings.HasPrefix(d.Profile, "libvirt-") {
		file = "the file of that profile in /etc/apparmor.d/local"
	}
	return fmt.Sprintf("let the names of volumes end as docs/apparmor.md says; if they do, write '\"%s\" %s,' into %s, then systemctl reload apparmor",
		d.Path, d.rights(), file)
}

// rights are those that a rule takes: what makes or removes a file is writing there.
func (d Denial) rights() string {
	rights := ""
	for _, right := range []struct{ rule, masks string }{{"r", "r"}, {"w", "wacd"}, {"k", "k"}, {"m", "m"}} {
		if strings.ContainsAny(d.Mask, right.masks) {
			rights += right.rule
		}
	}
	if rights == "" {
		return "r"
	}
	return rights
}
