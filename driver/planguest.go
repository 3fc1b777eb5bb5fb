package driver

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// guestOS finds the architecture and the machine type that a task asks for among
// those that guests can have, the host's own first; "": the default one.
func guestOS(asked *OS, guests []hypervisor.GuestArch, p *problems) (arch, machine string) {
	guest := guests[0]
	if asked == nil {
		return guest.Arch, ""
	}
	if asked.Arch != "" {
		at := slices.IndexFunc(guests, func(g hypervisor.GuestArch) bool { return g.Arch == asked.Arch })
		if at < 0 {
			p.addf("config.os.arch", "%q is none of the architectures that guests can have on this host: %s%s",
				asked.Arch, strings.Join(archesOf(guests), ", "), installFor(asked.Arch))
			return guest.Arch, ""
		}
		guest = guests[at]
	}
	if asked.Machine != "" && !slices.Contains(guest.Machines, asked.Machine) {
		p.addf("config.os.machine", "%q is no machine type of %s guests on this host; there are, versions left out: %s",
			asked.Machine, guest.Arch, strings.Join(guest.Usual, ", "))
		return guest.Arch, ""
	}
	return guest.Arch, asked.Machine
}

func archesOf(guests []hypervisor.GuestArch) []string {
	var all []string
	for _, g := range guests {
		all = append(all, g.Arch)
	}
	return all
}

// installFor says what an architecture takes that guests often have.
func installFor(arch string) string {
	if arch != "aarch64" {
		return ""
	}
	return "; this one takes QEMU and UEFI firmware for it, in Debian the packages qemu-system-arm and qemu-efi-aarch64"
}

// bus is how a disk is connected to the guest.
type bus struct {
	prefix string // of the names of its disks
	most   int    // disks that fit on it; 0: any number
	// writable tells that QEMU has no read-only hard disks on it.
	writable bool
}

// buses are those that a disk may ask for, in the order in which they are told
// of.
var (
	busNames = []string{"virtio", "scsi", "sata", "ide", "usb"}
	buses    = map[string]bus{
		"virtio": {prefix: "vd"},
		"scsi":   {prefix: "sd"},
		"sata":   {prefix: "sd", writable: true},
		"ide":    {prefix: "hd", most: 4, writable: true},
		"usb":    {prefix: "sd", most: 15},
	}
)

// guestSides computes how the guest sees each of the disks of the job file.
func guestSides(r request, primary int, p *problems) []vm.Disk {
	disks := make([]vm.Disk, len(r.task.Disks))
	for i, d := range r.task.Disks {
		disks[i] = guestSide(r, indexed("config.disk", i), d, r.sources[i].mount, p)
	}
	onBus := make(map[string]int)
	for i := range disks {
		onBus[disks[i].Bus]++
		if b := buses[disks[i].Bus]; b.most > 0 && onBus[disks[i].Bus] == b.most+1 {
			p.addf(indexed("config.disk", i)+".bus_type", "no more than %d disks fit on bus %s; name another", b.most, disks[i].Bus)
		}
	}
	nameDisks(r.task.Disks, disks, primary, p)
	return disks
}

func guestSide(r request, path string, d Disk, on *mount, p *problems) vm.Disk {
	oneOf(path+".kind", d.Kind, p, string(vm.HardDisk), string(vm.CDROM), string(vm.LUN))
	oneOf(path+".driver", d.Driver, p, "qemu")
	disk := vm.Disk{
		Kind:     vm.DiskKind(d.Kind),
		ReadOnly: d.ReadOnly || on != nil && on.readOnly || d.Kind == string(vm.CDROM),
	}
	if d.Kind == "" {
		disk.Kind = vm.HardDisk
	}
	disk.Bus = busOf(r.facts, path+".bus_type", d, disk.Kind, p)
	switch disk.Kind {
	case vm.CDROM:
		if disk.Bus == "virtio" {
			p.addf(path+".bus_type", "there are no virtio CD-ROMs; leave it out")
		}
	case vm.LUN:
		if disk.Bus != "scsi" {
			p.addf(path+".bus_type", "a lun is given SCSI commands, so it has to be on bus scsi; leave it out")
		}
		if d.Volume == "" {
			p.addf(path+".kind", "a lun is a block device that is given SCSI commands: it needs a Nomad volume, which volume names")
		}
	case vm.HardDisk:
		if disk.ReadOnly && buses[disk.Bus].writable {
			p.addf(path+".bus_type", "QEMU has no read-only disks on bus %s; use virtio, scsi or usb", disk.Bus)
		}
	}
	return disk
}

// busOf is the bus that a disk asks for, or the one that its kind has by
// default.
func busOf(f hypervisor.Facts, path string, d Disk, kind vm.DiskKind, p *problems) string {
	offered := f.Buses
	if d.BusType != "" {
		oneOf(path, d.BusType, p, busNames...)
		if len(offered) > 0 && slices.Contains(busNames, d.BusType) && !slices.Contains(offered, d.BusType) {
			p.addf(path, "the machine type has no %s; it has: %s", d.BusType, strings.Join(known(offered), ", "))
		}
		return d.BusType
	}
	switch {
	case kind == vm.LUN:
		return "scsi"
	case kind == vm.CDROM && f.Arch == "aarch64":
		return "scsi" // that of the seed: SATA can be added to a virt, and is not what it has
	case kind == vm.CDROM: // what a computer of that type would have
		for _, b := range []string{"ide", "sata"} {
			if slices.Contains(offered, b) {
				return b
			}
		}
		return "scsi"
	}
	return "virtio"
}

// known lists those of the offered buses that a disk may ask for.
func known(offered []string) []string {
	return slices.DeleteFunc(slices.Clone(busNames), func(b string) bool { return !slices.Contains(offered, b) })
}

// ideNames are all there are: two cables with two disks each.
var ideNames = []string{"hda", "hdb", "hdc", "hdd"}

var diskName = regexp.MustCompile(`^[vsh]d[a-z]{1,2}$`)

// nameDisks gives each disk the name that it asks for, or the next one of its
// bus that no disk asks for, beginning with the primary disk.
func nameDisks(asked []Disk, disks []vm.Disk, primary int, p *problems) {
	taken := make(map[string]int)
	for i, d := range asked {
		name, attribute := askedName(d)
		if name == "" {
			continue
		}
		path := indexed("config.disk", i) + "." + attribute
		b, is := buses[disks[i].Bus]
		switch other, twice := taken[name]; {
		case !is: // a problem already
		case !diskName.MatchString(name) || !strings.HasPrefix(name, b.prefix):
			p.addf(path, "%q is no name of a disk on bus %s; %s, or name another bus_type",
				name, disks[i].Bus, anotherName(attribute, b))
		case twice:
			p.addf(path, "disk[%d] is %s already; name another, or leave devname out", other, name)
		case disks[i].Bus == "ide" && !slices.Contains(ideNames, name):
			p.addf(path, "%q is no name of a disk on bus ide, they are: %s", name, strings.Join(ideNames, ", "))
		}
		taken[name] = i
		disks[i].Device = name
	}
	next := make(map[string]int)
	choose := func(i int) {
		prefix := buses[disks[i].Bus].prefix
		for disks[i].Device == "" {
			name := vm.DiskName(prefix, next[prefix])
			next[prefix]++
			if _, is := taken[name]; !is {
				disks[i].Device = name
			}
		}
	}
	choose(primary)
	for i := range disks {
		choose(i)
	}
}

// anotherName is what to do about a name that does not go with its bus.
func anotherName(attribute string, b bus) string {
	some := fmt.Sprintf("%s, %s and so on", vm.DiskName(b.prefix, 0), vm.DiskName(b.prefix, 1))
	if attribute == "volume" {
		return "set devname to one of " + some
	}
	return "write " + some
}

// askedName is the name that a disk's block gives it, and by which attribute: a
// disk on a Nomad volume is named by where the task mounts that.
func askedName(d Disk) (name, attribute string) {
	if d.Devname == "" && strings.HasPrefix(d.Volume, "/dev/") {
		return path.Base(d.Volume), "volume"
	}
	return d.Devname, "devname"
}
