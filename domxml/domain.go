// Package domxml translates between the plain values of package vm and
// libvirt's XML: domains, volumes, pools, networks and capabilities. It is
// pure: what it returns is sent, and what it is given was fetched, by package
// hypervisor.
package domxml

import (
	"fmt"
	"strings"
	"unicode"

	"libvirt.org/go/libvirtxml"

	"nomad-driver-virt/vm"
)

// Domain returns the libvirt domain of a VM. The XML holds no secret: what the
// guest is told is in its seed volume.
//
// Format: https://libvirt.org/formatdomain.html
func Domain(s *vm.Spec) (string, error) {
	metadata, err := marshalMetadata(s)
	if err != nil {
		return "", err
	}
	d := libvirtxml.Domain{
		Type:          string(s.Accel),
		Name:          s.Name,
		Title:         oneLine("Nomad task %s of job %s", s.Owner.Task, s.Owner.Job),
		Description:   oneLine("allocation %s in namespace %s", s.Owner.Alloc, s.Owner.Namespace),
		Metadata:      &libvirtxml.DomainMetadata{XML: metadata},
		Memory:        &libvirtxml.DomainMemory{Value: uint(max(s.Memory, s.MemoryMax) / vm.KiB), Unit: "KiB"},
		CurrentMemory: currentMemory(s),
		VCPU:          &libvirtxml.DomainVCPU{Placement: "static", Value: uint(s.VCPUs)},
		CPUTune:       cpuTune(s.Cores),
		OS:            domainOS(s),
		Features:      features(s),
		CPU:           cpu(s.CPUModel),
		Clock:         &libvirtxml.DomainClock{Offset: "utc"},
		// A reboot in the guest is the guest's affair, all else ends the task. A guest
		// that has panicked is there until the driver has seen it.
		OnPoweroff: "destroy",
		OnReboot:   "restart",
		OnCrash:    "preserve",
		Devices:    devices(s),
	}
	if sharesBy(s.Shares, vm.VirtioFS) {
		// virtiofsd is another process, which reads and writes the guest's memory.
		d.MemoryBacking = &libvirtxml.DomainMemoryBacking{
			MemorySource: &libvirtxml.DomainMemorySource{Type: "memfd"},
			MemoryAccess: &libvirtxml.DomainMemoryAccess{Mode: "shared"},
		}
	}
	return d.Marshal()
}

// currentMemory is what the guest has at first, where it may take more.
func currentMemory(s *vm.Spec) *libvirtxml.DomainCurrentMemory {
	if s.MemoryMax <= s.Memory {
		return nil
	}
	return &libvirtxml.DomainCurrentMemory{Value: uint(s.Memory / vm.KiB), Unit: "KiB"}
}

// cpuTune pins each vCPU to its core, and QEMU's own threads to all of them.
func cpuTune(cores []uint) *libvirtxml.DomainCPUTune {
	if len(cores) == 0 {
		return nil
	}
	t := &libvirtxml.DomainCPUTune{EmulatorPin: &libvirtxml.DomainCPUTuneEmulatorPin{}}
	for i, core := range cores {
		set := fmt.Sprint(core)
		t.VCPUPin = append(t.VCPUPin, libvirtxml.DomainCPUTuneVCPUPin{VCPU: uint(i), CPUSet: set})
		if i > 0 {
			t.EmulatorPin.CPUSet += ","
		}
		t.EmulatorPin.CPUSet += set
	}
	return t
}

func cpu(model string) *libvirtxml.DomainCPU {
	switch model {
	case vm.CPUHost, vm.CPUMaximum:
		return &libvirtxml.DomainCPU{Mode: model}
	}
	return &libvirtxml.DomainCPU{
		Mode:  "custom",
		Match: "exact",
		Model: &libvirtxml.DomainCPUModel{Value: model, Fallback: "forbid"},
	}
}

// oneLine is Sprintf for what libvirt wants on one line, as a domain's title.
func oneLine(format string, args ...any) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, fmt.Sprintf(format, args...))
}

// panicDevices are those by which a guest tells that its kernel has panicked.
func panicDevices(arch string) []libvirtxml.DomainPanic {
	if !arches[arch].x86 {
		return nil // libvirt has one for ARM since 9.1
	}
	return []libvirtxml.DomainPanic{{Model: "isa"}}
}

func devices(s *vm.Spec) *libvirtxml.DomainDeviceList {
	port := uint(0)
	d := &libvirtxml.DomainDeviceList{
		Controllers: diskControllers(s.Disks),
		Serials: []libvirtxml.DomainSerial{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Log:    consoleLog(s.ConsoleLog),
			Target: &libvirtxml.DomainSerialTarget{Port: &port},
		}},
		Consoles: []libvirtxml.DomainConsole{{
			Source: &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}},
			Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &port},
		}},
		Channels: []libvirtxml.DomainChannel{{
			Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{Mode: "bind"}},
			Target: &libvirtxml.DomainChannelTarget{
				VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: "org.qemu.guest_agent.0"},
			},
		}},
		RNGs: []libvirtxml.DomainRNG{{
			Model:   "virtio",
			Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
		}},
		Panics: panicDevices(s.Arch),
		MemBalloon: &libvirtxml.DomainMemBalloon{
			Model:       "virtio",
			AutoDeflate: onlyIf(s.MemoryMax > s.Memory), // the guest takes more before it kills a process
			Stats:       &libvirtxml.DomainMemBalloonStats{Period: balloonStatsEvery},
		},
	}
	d.Disks = diskDevices(s.Disks, s.SeedVolume)
	for _, i := range s.Interfaces {
		d.Interfaces = append(d.Interfaces, interfaceDevice(i))
	}
	for _, share := range s.Shares {
		d.Filesystems = append(d.Filesystems, filesystemDevice(share))
	}
	return d
}

func consoleLog(file string) *libvirtxml.DomainChardevLog {
	if file == "" {
		return nil
	}
	return &libvirtxml.DomainChardevLog{File: file, Append: "on"}
}

// onlyIf is libvirt's "on", or "" for what is to be as it is by itself.
func onlyIf(on bool) string {
	if on {
		return "on"
	}
	return ""
}

// balloonStatsEvery is how often the guest reports its memory, in seconds.
const balloonStatsEvery = 5

func interfaceDevice(i vm.Interface) libvirtxml.DomainInterface {
	device := libvirtxml.DomainInterface{
		MAC:   &libvirtxml.DomainInterfaceMAC{Address: i.MAC},
		Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"},

		FilterRef: filterOf(i.Filter),
	}
	if i.Device != "" {
		device.Source = &libvirtxml.DomainInterfaceSource{
			Direct: &libvirtxml.DomainInterfaceSourceDirect{Dev: i.Device, Mode: i.Mode},
		}
	} else {
		device.Source = &libvirtxml.DomainInterfaceSource{
			Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: i.Bridge},
		}
	}
	return device
}

// filterOf refers to a network filter, and has libvirt know the guest's address for
// it: by itself it takes the first one that the guest uses for the guest's own.
//
// See "Usage of reserved variables" in https://libvirt.org/formatnwfilter.html
func filterOf(f vm.Filter) *libvirtxml.DomainInterfaceFilterRef {
	if f.Name == "" {
		return nil
	}
	ref := &libvirtxml.DomainInterfaceFilterRef{Filter: f.Name}
	set := func(name, value string) {
		ref.Parameters = append(ref.Parameters, libvirtxml.DomainInterfaceFilterParam{Name: name, Value: value})
	}
	switch {
	case f.Address.IsValid():
		set("IP", f.Address.String())
	case f.DHCPServer.IsValid():
		set("CTRL_IP_LEARNING", "dhcp")
		set("DHCPSERVER", f.DHCPServer.String())
	}
	return ref
}

func filesystemDevice(s vm.Share) libvirtxml.DomainFilesystem {
	f := libvirtxml.DomainFilesystem{
		AccessMode: "passthrough",
		Driver:     &libvirtxml.DomainFilesystemDriver{Type: "virtiofs"},
		Source:     &libvirtxml.DomainFilesystemSource{Mount: &libvirtxml.DomainFilesystemSourceMount{Dir: s.Mount}},
		Target:     &libvirtxml.DomainFilesystemTarget{Dir: s.Tag},
	}
	if s.Type == vm.NineP {
		f.Driver.Type = "path"
	}
	if s.Type == vm.NineP && s.ReadOnly {
		// QEMU enforces it. libvirt before 11.0 refuses it for virtiofs, where
		// the mount is read-only by itself.
		f.ReadOnly = &libvirtxml.DomainFilesystemReadOnly{}
	}
	return f
}

func sharesBy(shares []vm.Share, t vm.ShareType) bool {
	for _, s := range shares {
		if s.Type == t {
			return true
		}
	}
	return false
}

// ParseTaps reads the interfaces of a domain that runs which are on bridges, in
// the order in which they were defined.
func ParseTaps(document string) ([]vm.Tap, error) {
	var d libvirtxml.Domain
	if err := d.Unmarshal(document); err != nil {
		return nil, fmt.Errorf("domain XML: %w", err)
	}
	if d.Devices == nil {
		return nil, nil
	}
	var taps []vm.Tap
	for _, i := range d.Devices.Interfaces {
		if i.Source != nil && i.Source.Bridge != nil && i.Target != nil {
			taps = append(taps, vm.Tap{Device: i.Target.Dev, Bridge: i.Source.Bridge.Bridge})
		}
	}
	return taps, nil
}
