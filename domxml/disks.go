package domxml

import (
	"net"

	"libvirt.org/go/libvirtxml"

	"nomad-driver-virt/vm"
)

// usbPorts is how many disks fit on the USB controller: as many ports as it can
// have.
const usbPorts = 15

// diskDriver is QEMU's own: libvirt has others for other hypervisors.
const diskDriver = "qemu"

// diskControllers lists the controllers that libvirt would not choose by itself.
func diskControllers(disks []vm.Disk) []libvirtxml.DomainController {
	// The seed's bus: every guest that knows virtio disks knows virtio-scsi,
	// which libvirt's default SCSI controller (an LSI card) is not.
	all := []libvirtxml.DomainController{{Type: "scsi", Model: "virtio-scsi"}}
	for _, d := range disks {
		if d.Bus == "usb" {
			// libvirt's default on older machine types is USB 1.
			ports := uint(usbPorts)
			return append(all, libvirtxml.DomainController{
				Type: "usb", Model: "qemu-xhci", USB: &libvirtxml.DomainControllerUSB{Port: &ports},
			})
		}
	}
	return all
}

// diskDevices lists the disks of a domain, and the seed as the last.
func diskDevices(disks []vm.Disk, seed vm.Volume) []libvirtxml.DomainDisk {
	all := make([]libvirtxml.DomainDisk, len(disks))
	units := uint(0)
	taken := make(map[string]bool)
	for i, d := range disks {
		all[i] = diskDevice(d)
		if d.Bus == "scsi" {
			all[i].Address = scsiAddress(units)
			units++
		}
		taken[d.Device] = true
	}
	if len(all) > 0 {
		// Said of the disk: libvirt sorts disks by their targets.
		all[0].Boot = &libvirtxml.DomainDeviceBoot{Order: 1}
	}
	target := 0
	for taken[vm.DiskName("sd", target)] {
		target++
	}
	return append(all, libvirtxml.DomainDisk{
		Device:   string(vm.CDROM),
		Driver:   &libvirtxml.DomainDiskDriver{Name: diskDriver, Type: seed.Format},
		Source:   diskSource(seed),
		Target:   &libvirtxml.DomainDiskTarget{Dev: vm.DiskName("sd", target), Bus: "scsi"},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
		Address:  scsiAddress(units),
	})
}

// scsiAddress places a disk on the one SCSI controller. Left to itself, libvirt
// computes the place from the target's name, seven to a controller, and adds
// controllers of its default model, the LSI card.
func scsiAddress(unit uint) *libvirtxml.DomainAddress {
	zero := uint(0)
	return &libvirtxml.DomainAddress{Drive: &libvirtxml.DomainAddressDrive{
		Controller: &zero, Bus: &zero, Target: &zero, Unit: &unit,
	}}
}

func diskDevice(d vm.Disk) libvirtxml.DomainDisk {
	device := libvirtxml.DomainDisk{
		Device: string(d.Kind),
		Driver: &libvirtxml.DomainDiskDriver{Name: diskDriver, Type: d.Volume.Format},
		Source: diskSource(d.Volume),
		Target: &libvirtxml.DomainDiskTarget{Dev: d.Device, Bus: d.Bus},
		// Said in full, so that libvirt need not probe what is below, and cannot
		// be led anywhere by it.
		BackingStore: &libvirtxml.DomainDiskBackingStore{},
	}
	if d.Kind == vm.HardDisk {
		device.Driver.Discard = discardFor(d.Volume)
	}
	if d.Kind != vm.LUN { // its name and its errors are the device's own
		// A guest names disks in the order in which it finds them; udev has links
		// by what they say of themselves, /dev/disk/by-id/virtio-vdb.
		device.Serial = d.Device
		// A full pool stops the guest until there is room: an error in the guest
		// would cost it data.
		device.Driver.ErrorPolicy = "stop"
		device.Driver.RErrorPolicy = "stop"
	}
	if d.ReadOnly {
		device.ReadOnly = &libvirtxml.DomainDiskReadOnly{}
	}
	if d.Base != nil && d.Base.RBD == nil { // a clone in Ceph is a whole disk to QEMU
		device.BackingStore = &libvirtxml.DomainDiskBackingStore{
			Format:       &libvirtxml.DomainDiskFormat{Type: d.Base.Format},
			Source:       diskSource(d.Base.Volume),
			BackingStore: &libvirtxml.DomainDiskBackingStore{},
		}
	}
	return device
}

// discardFor has a volume give back what the guest discards, unless it was asked
// to be allocated in full.
func discardFor(v vm.Volume) string {
	if v.Sparse {
		return "unmap"
	}
	return "ignore"
}

// diskSource names a file, a device or an image of Ceph's, and not a volume:
// libvirt ends a VM whose disk is of type "volume" when it restarts while the
// pool is inactive.
func diskSource(v vm.Volume) *libvirtxml.DomainDiskSource {
	switch {
	case v.RBD != nil:
		return rbdSource(v)
	case v.Pool == "":
		return &libvirtxml.DomainDiskSource{Block: &libvirtxml.DomainDiskSourceBlock{Dev: v.Path}}
	}
	return &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: v.Path}}
}

func rbdSource(v vm.Volume) *libvirtxml.DomainDiskSource {
	network := &libvirtxml.DomainDiskSourceNetwork{Protocol: "rbd", Name: v.RBD.Pool + "/" + v.Name}
	for _, monitor := range v.RBD.Monitors {
		host, port, err := net.SplitHostPort(monitor)
		if err != nil {
			host, port = monitor, ""
		}
		network.Hosts = append(network.Hosts, libvirtxml.DomainDiskSourceHost{Name: host, Port: port})
	}
	network.Auth = &libvirtxml.DomainDiskAuth{
		Username: v.RBD.User,
		Secret:   &libvirtxml.DomainDiskSecret{Type: "ceph", UUID: v.RBD.Secret},
	}
	return &libvirtxml.DomainDiskSource{Network: network}
}
