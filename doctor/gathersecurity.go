package doctor

import (
	"encoding/hex"
	"errors"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	kernelLog = "/dev/kmsg"
	auditLog  = "/var/log/audit/audit.log" // where there is auditd, the kernel's has no refusals
	auditTail = 4 << 20                    // bytes of it that are read

	selinuxEnforces = "/sys/fs/selinux/enforce"
)

func gatherSecurity(s Settings) Security {
	var found Security
	messages, err := kernelMessages()
	found.Log = err
	if audited, err := lines(auditLog, auditTail); err == nil {
		messages, found.Log = append(messages, audited...), nil
	}
	for _, m := range messages {
		if d, is := denialIn(m); is && !slices.Contains(found.Denied, d) {
			found.Denied = append(found.Denied, d)
		}
	}
	found.Enforcing = isOne(selinuxEnforces)
	if s.Agent != nil && s.Agent.DataDir != "" {
		label := make([]byte, 256)
		if n, err := unix.Getxattr(s.Agent.DataDir, "security.selinux", label); err == nil {
			found.Label = strings.TrimRight(string(label[:n]), "\x00")
		}
	}
	return found
}

// kernelMessages reads the kernel's log: each read returns one message.
//
// See Documentation/ABI/testing/dev-kmsg of the kernel.
func kernelMessages() ([]string, error) {
	log, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(log) }()
	var all []string
	message := make([]byte, 8<<10)
	for {
		n, err := unix.Read(log, message)
		switch {
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // messages were overwritten meanwhile
		case errors.Is(err, unix.EAGAIN), err == nil && n == 0: // that was the last one
			return all, nil
		case err != nil:
			return all, err
		default:
			all = append(all, string(message[:n]))
		}
	}
}

// Profiles of libvirt's: of each QEMU one that begins so, and those of its helpers.
var (
	ofLibvirt = regexp.MustCompile(`profile="((?:libvirt-[^"]+)|(?:[^"]*virt-aa-helper)|(?:[^"]*virtiofsd))"`)
	pathNamed = regexp.MustCompile(` name=(?:"([^"]+)"|([0-9A-F]+))`)
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
	return Denial{Profile: profile[1], Path: path[1]}, true
}
