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

// ParseVirtioFS tells from a domain's capabilities whether libvirt and QEMU
// can share directories by virtiofs.
//
// Format: https://libvirt.org/formatdomaincaps.html
func ParseVirtioFS(domainCapabilities string) (bool, error) {
	var c libvirtxml.DomainCaps
	if err := c.Unmarshal(domainCapabilities); err != nil {
		return false, fmt.Errorf("domain capabilities XML: %w", err)
	}
	if c.Devices == nil || c.Devices.FileSystem == nil || c.Devices.FileSystem.Supported != "yes" {
		return false, nil
	}
	return slices.ContainsFunc(c.Devices.FileSystem.Enums, func(e libvirtxml.DomainCapsEnum) bool {
		return e.Name == "driverType" && slices.Contains(e.Values, "virtiofs")
	}), nil
}
