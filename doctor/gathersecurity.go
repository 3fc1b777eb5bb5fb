package doctor

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/kmsg"
)

const (
	auditLog  = "/var/log/audit/audit.log" // where there is auditd, the kernel's has no refusals
	auditTail = 4 << 20                    // bytes of it that are read

	selinuxEnforces = "/sys/fs/selinux/enforce"
)

func gatherSecurity(s Settings) Security {
	var found Security
	var messages []string
	for message, err := range kmsg.Messages() {
		if err != nil {
			found.Log = err
			break
		}
		messages = append(messages, message)
	}
	if audited, err := lines(auditLog, auditTail); err == nil {
		messages, found.Log = append(messages, audited...), nil
	}
	for _, m := range messages {
		if d, is := denialIn(m); is {
			found.Denied = withDenial(found.Denied, d)
		}
	}
	found.Enforcing = isOne(selinuxEnforces)
	found.Labels = make(map[string]string)
	for _, l := range labelled(s) {
		// One that is missing will have its parent's.
		found.Labels[l.dir] = labelOf(lookAtNearest(l.dir).At)
	}
	return found
}

// withDenial adds a refusal, or takes it for the last one of its kind.
func withDenial(all []Denial, d Denial) []Denial {
	same := func(o Denial) bool { return o.Profile == d.Profile && o.Path == d.Path && o.Mask == d.Mask }
	i := slices.IndexFunc(all, same)
	switch {
	case i < 0:
		return append(all, d)
	case d.At.After(all[i].At):
		all[i].At = d.At
	}
	return all
}

// labelOf is what SELinux knows a file by; "": it has no label.
func labelOf(path string) string {
	label := make([]byte, 256)
	n, err := unix.Getxattr(path, "security.selinux", label)
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(label[:n]), "\x00")
}

// Profiles of libvirt's: of each QEMU one that begins so, and those of its helpers.
var (
	ofLibvirt = regexp.MustCompile(`profile="((?:libvirt-[^"]+)|(?:[^"]*virt-aa-helper)|(?:[^"]*virtiofsd))"`)
	pathNamed = regexp.MustCompile(` name=(?:"([^"]+)"|([0-9A-F]+))`)
	refused   = regexp.MustCompile(` denied_mask="([^"]*)"`)
	auditedAt = regexp.MustCompile(`audit\((\d+)\.\d+:\d+\)`) // in seconds of the epoch
)

// denialIn finds in a message what AppArmor has refused to libvirt's VMs. A path with
// spaces is in hexadecimal there.
func denialIn(message string) (Denial, bool) {
	if !strings.Contains(message, `apparmor="DENIED"`) {
		return Denial{}, false
	}
	profile, path := ofLibvirt.FindStringSubmatch(message), pathNamed.FindStringSubmatch(message)
	if profile == nil || path == nil {
		return Denial{}, false
	}
	if path[1] == "" {
		decoded, err := hex.DecodeString(path[2])
		if err != nil {
			return Denial{}, false
		}
		path[1] = string(decoded)
	}
	d := Denial{Profile: profile[1], Path: path[1]}
	if mask := refused.FindStringSubmatch(message); mask != nil {
		d.Mask = mask[1]
	}
	if at := auditedAt.FindStringSubmatch(message); at != nil {
		if seconds, err := strconv.ParseInt(at[1], 10, 64); err == nil {
			d.At = time.Unix(seconds, 0)
		}
	}
	return d, true
}
