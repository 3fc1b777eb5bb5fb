package doctor

import (
	"fmt"
	"path/filepath"
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
	case confined == "selinux" && f.Security.Enforcing && f.Security.Label != "" && !readableLabel(f.Security.Label):
		dir := allocations(s)
		a.warn(subject, "semanage fcontext -a -t virt_content_t '"+dir+"(/.*)?' && restorecon -R "+dir,
			"SELinux confines QEMU, and what tasks have in %s is labelled %q, which VMs may not read", dir, f.Security.Label)
	case f.Security.Log != nil:
		a.warn(subject, "sudo nomad-driver-virt doctor", "%s confines QEMU; whether it has refused anything is in the kernel's log: %s", confined, f.Security.Log)
	default:
		a.ok(subject, "%s confines QEMU, and has refused it none of the driver's directories", confined)
	}
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

// allocations is where Nomad has the directories that guests see.
func allocations(s Settings) string {
	return filepath.Join(s.Agent.DataDir, "alloc")
}

// readableLabel tells a label of files that SELinux lets all VMs read.
func readableLabel(label string) bool {
	return strings.Contains(label, ":virt_content_t:") || strings.Contains(label, ":svirt_image_t:")
}
