package domxml

import (
	"maps"
	"slices"

	"libvirt.org/go/libvirtxml"

	"nomad-driver-virt/vm"
)

// arch is what guests of one architecture need.
type arch struct {
	// machine is the machine type that a guest has by default; "": libvirt's
	// default.
	machine string
	// firmware is what libvirt is to look for; "": what QEMU brings along.
	firmware string
	x86      bool
}

const (
	aarch64 = "aarch64"
	uefi    = "efi"
)

// arches are those that domains are made for, by libvirt's names.
var arches = map[string]arch{
	"x86_64": {x86: true},
	"i686":   {x86: true},
	// libvirt's default is a board of 2003. ACPI, by which a guest is asked to shut
	// down, comes with UEFI only.
	aarch64: {machine: "virt", firmware: uefi},
}

// MakesGuests tells whether domains can be made for guests of an architecture.
func MakesGuests(name string) bool {
	_, is := arches[name]
	return is
}

// Architectures lists those that domains can be made for, x86_64 first.
func Architectures() []string {
	names := slices.Sorted(maps.Keys(arches))
	slices.Reverse(names)
	return names
}

// DefaultMachine is the machine type that guests of an architecture have by
// default; "" stands for libvirt's default.
func DefaultMachine(name string) string { return arches[name].machine }

// NeedsUEFI tells whether guests of an architecture boot by UEFI alone.
func NeedsUEFI(name string) bool { return arches[name].firmware == uefi }

func domainOS(s *vm.Spec) *libvirtxml.DomainOS {
	a := arches[s.Arch]
	os := &libvirtxml.DomainOS{
		Type:     &libvirtxml.DomainOSType{Arch: s.Arch, Machine: s.Machine, Type: "hvm"},
		Firmware: a.firmware,
	}
	if a.firmware == uefi {
		// Firmware that boots what Microsoft has signed and nothing else would be
		// libvirt's first choice.
		os.FirmwareInfo = &libvirtxml.DomainOSFirmwareInfo{
			Features: []libvirtxml.DomainOSFirmwareFeature{{Name: "secure-boot", Enabled: "no"}},
		}
	}
	if a.x86 {
		// SeaBIOS alone can write to the serial console.
		os.BIOS = &libvirtxml.DomainBIOS{UseSerial: "yes"}
	}
	return os
}

func features(s *vm.Spec) *libvirtxml.DomainFeatureList {
	f := &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}}
	if arches[s.Arch].x86 {
		f.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	if s.Arch == aarch64 && s.Accel == vm.TCG {
		// libvirt's choice is version 2, which has no more than eight CPUs. Under
		// KVM it chooses what the host has.
		f.GIC = &libvirtxml.DomainFeatureGIC{Version: "3"}
	}
	return f
}
