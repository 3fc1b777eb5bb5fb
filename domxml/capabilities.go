package domxml

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// Capabilities is what libvirt can run on a host.
type Capabilities struct {
	Arch     string // the host's own, by libvirt's name
	QEMUUser string // the number of the user that QEMU runs as; empty: libvirt does not tell
	Guests   []Guest
}

// Guest is an architecture that guests can have.
type Guest struct {
	Arch     string
	Machines []string // the machine types that there are, in libvirt's order
	// Usual are those machine types that stand for the newest of their versions:
	// "q35", and not "pc-q35-7.2".
	Usual []string
}

// ParseCapabilities reads what libvirt tells of its host.
//
// Format: https://libvirt.org/formatcaps.html
func ParseCapabilities(document string) (Capabilities, error) {
	var c libvirtxml.Caps
	if err := c.Unmarshal(document); err != nil {
		return Capabilities{}, fmt.Errorf("capabilities XML: %w", err)
	}
	if c.Host.CPU == nil || c.Host.CPU.Arch == "" {
		return Capabilities{}, errors.New("capabilities XML: it names no architecture of the host")
	}
	found := Capabilities{Arch: c.Host.CPU.Arch, QEMUUser: userOf(c.Host.SecModel)}
	for _, g := range c.Guests {
		if g.OSType != "hvm" {
			continue
		}
		guest := Guest{Arch: g.Arch.Name}
		for _, m := range g.Arch.Machines {
			guest.Machines = append(guest.Machines, m.Name)
			if m.Canonical != "" {
				guest.Usual = append(guest.Usual, m.Name)
			}
		}
		found.Guests = append(found.Guests, guest)
	}
	return found, nil
}

// userOf finds who QEMU runs as, in a label like "+64055:+64055".
func userOf(models []libvirtxml.CapsHostSecModel) string {
	for _, m := range models {
		if m.Name == "dac" && len(m.Labels) > 0 {
			user, _, _ := strings.Cut(m.Labels[0].Value, ":")
			return strings.TrimPrefix(user, "+")
		}
	}
	return ""
}

// Offer is what libvirt and QEMU offer to a guest of one machine type.
type Offer struct {
	VirtioFS bool     // whether directories can be shared by virtiofs
	Buses    []string // that a disk can be on, "virtio"
	UEFI     bool     // whether the host has UEFI firmware for it
}

// ParseOffer reads a domain's capabilities.
//
// Format: https://libvirt.org/formatdomaincaps.html
func ParseOffer(domainCapabilities string) (Offer, error) {
	var c libvirtxml.DomainCaps
	if err := c.Unmarshal(domainCapabilities); err != nil {
		return Offer{}, fmt.Errorf("domain capabilities XML: %w", err)
	}
	var o Offer
	if c.OS != nil {
		o.UEFI = slices.Contains(values(c.OS.Enums, "firmware"), uefi)
	}
	if c.Devices != nil {
		o.VirtioFS = slices.Contains(offered(c.Devices.FileSystem, "driverType"), "virtiofs")
		o.Buses = offered(c.Devices.Disk, "bus")
	}
	return o, nil
}

// offered lists what a device may have for one of its properties.
func offered(d *libvirtxml.DomainCapsDevice, property string) []string {
	if d == nil || d.Supported != "yes" {
		return nil
	}
	return values(d.Enums, property)
}

func values(enums []libvirtxml.DomainCapsEnum, property string) []string {
	for _, e := range enums {
		if e.Name == property {
			return e.Values
		}
	}
	return nil
}
