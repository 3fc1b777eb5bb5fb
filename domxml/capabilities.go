package domxml

import (
	"errors"
	"fmt"
	"slices"

	"libvirt.org/go/libvirtxml"
)

// ParseHostArch returns the architecture of the host, by libvirt's name.
func ParseHostArch(capabilities string) (string, error) {
	var c libvirtxml.Caps
	if err := c.Unmarshal(capabilities); err != nil {
		return "", fmt.Errorf("capabilities XML: %w", err)
	}
	if c.Host.CPU == nil || c.Host.CPU.Arch == "" {
		return "", errors.New("capabilities XML: it names no architecture of the host")
	}
	return c.Host.CPU.Arch, nil
}

// Offer is what libvirt and QEMU offer to a guest of one machine type.
type Offer struct {
	VirtioFS bool     // whether directories can be shared by virtiofs
	Buses    []string // that a disk can be on, "virtio"
}

// ParseOffer reads a domain's capabilities.
//
// Format: https://libvirt.org/formatdomaincaps.html
func ParseOffer(domainCapabilities string) (Offer, error) {
	var c libvirtxml.DomainCaps
	if err := c.Unmarshal(domainCapabilities); err != nil {
		return Offer{}, fmt.Errorf("domain capabilities XML: %w", err)
	}
	if c.Devices == nil {
		return Offer{}, nil
	}
	return Offer{
		VirtioFS: slices.Contains(offered(c.Devices.FileSystem, "driverType"), "virtiofs"),
		Buses:    offered(c.Devices.Disk, "bus"),
	}, nil
}

// offered lists what a device may have for one of its properties.
func offered(d *libvirtxml.DomainCapsDevice, property string) []string {
	if d == nil || d.Supported != "yes" {
		return nil
	}
	for _, e := range d.Enums {
		if e.Name == property {
			return e.Values
		}
	}
	return nil
}
