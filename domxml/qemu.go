package domxml

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// QEMU is how libvirt runs the QEMU of guests of the host's own architecture.
type QEMU struct {
	Emulator string // the program; "": there is none
	// User and Group are the numbers that it runs as; -1: libvirt does not say.
	User, Group int
	// Confined are the security modules that keep it apart, "apparmor" or "selinux".
	Confined []string
}

// ParseQEMU reads what libvirt's capabilities tell of it.
//
// Format: https://libvirt.org/formatcaps.html
func ParseQEMU(document string) (QEMU, error) {
	var c libvirtxml.Caps
	if err := c.Unmarshal(document); err != nil {
		return QEMU{}, fmt.Errorf("capabilities XML: %w", err)
	}
	q := QEMU{User: -1, Group: -1}
	for _, m := range c.Host.SecModel {
		switch m.Name {
		case "none":
		case "dac":
			for _, label := range m.Labels {
				if user, group, is := numbers(label.Value); is {
					q.User, q.Group = user, group
				}
			}
		default:
			q.Confined = append(q.Confined, m.Name)
		}
	}
	if c.Host.CPU == nil {
		return q, nil
	}
	own := slices.IndexFunc(c.Guests, func(g libvirtxml.CapsGuest) bool {
		return g.OSType == "hvm" && g.Arch.Name == c.Host.CPU.Arch
	})
	if own >= 0 {
		q.Emulator = c.Guests[own].Arch.Emulator
	}
	return q, nil
}

// numbers reads a label like "+64055:+64055".
func numbers(label string) (user, group int, ok bool) {
	first, second, _ := strings.Cut(label, ":")
	user, err1 := strconv.Atoi(strings.TrimPrefix(first, "+"))
	group, err2 := strconv.Atoi(strings.TrimPrefix(second, "+"))
	return user, group, err1 == nil && err2 == nil
}
