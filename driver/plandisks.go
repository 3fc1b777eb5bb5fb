package driver

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// planDisks computes the disks of a VM, the primary one first.
func planDisks(r request, name string, p *problems) []vm.Disk {
	if len(r.task.Disks) == 0 {
		p.addf("config.disk", "is missing; a VM needs one: disk { source { image = \"…\" } }")
		return nil
	}
	primary := primaryDisk(r.task.Disks, p)
	devices := deviceNames(r.task.Disks, primary, p)
	disks := make([]vm.Disk, len(r.task.Disks))
	for i, d := range r.task.Disks {
		disks[i] = planDisk(r, name, i, devices[i], d, p)
	}
	// The first is the one that boots.
	boot := disks[primary]
	return append([]vm.Disk{boot}, slices.Delete(disks, primary, primary+1)...)
}

// primaryDisk finds the disk that the VM boots from: the only one, or the one
// that says so.
func primaryDisk(disks []Disk, p *problems) int {
	if len(disks) == 1 {
		return 0
	}
	found := -1
	for i, d := range disks {
		switch {
		case !d.Primary:
		case found >= 0:
			p.addf(indexed("config.disk", i)+".primary", "disk[%d] is the primary disk already, there is only one", found)
		default:
			found = i
		}
	}
	if found < 0 {
		p.addf("config.disk", "none of the %d disks is primary; set primary = true in the one to boot from", len(disks))
		return 0
	}
	return found
}

var virtioName = regexp.MustCompile(`^vd[a-z]{1,2}$`)

// deviceNames gives each disk the name that it asks for, or the next one that
// no disk asks for, beginning with the primary disk.
func deviceNames(disks []Disk, primary int, p *problems) []string {
	taken := make(map[string]int)
	for i, d := range disks {
		path := indexed("config.disk", i) + ".devname"
		if d.Devname == "" {
			continue
		}
		if !virtioName.MatchString(d.Devname) {
			p.addf(path, "%q is no name of a virtio disk; write vda, vdb and so on, or leave it out", d.Devname)
		} else if other, is := taken[d.Devname]; is {
			p.addf(path, "disk[%d] is %s already", other, d.Devname)
		}
		taken[d.Devname] = i
	}
	next := 0
	choose := func(d Disk) string {
		for d.Devname == "" {
			name := diskName(next)
			next++
			if _, is := taken[name]; !is {
				return name
			}
		}
		return d.Devname
	}
	names := make([]string, len(disks))
	names[primary] = choose(disks[primary])
	for i, d := range disks {
		if i != primary {
			names[i] = choose(d)
		}
	}
	return names
}

// diskName is the name of the i-th virtio disk: vda, …, vdz, vdaa, …
func diskName(i int) string {
	letters := ""
	for i++; i > 0; i = (i - 1) / 26 {
		letters = string(rune('a'+(i-1)%26)) + letters
	}
	return "vd" + letters
}

func planDisk(r request, name string, index int, device string, d Disk, p *problems) vm.Disk {
	path := indexed("config.disk", index)
	refuseDisk(path, d, p)
	disk := vm.Disk{Device: device, Bus: "virtio", Driver: "qemu", ReadOnly: d.ReadOnly, Image: r.images[index]}

	pool := diskPool(r.config, path, d, p)
	format := d.Format
	if format == "" {
		format = image.Qcow2
	}
	disk.Volume = inPool(r.config, pool, vm.Volume{
		Name:   fmt.Sprintf("%s-%s%s", name, device, suffix(format)),
		Format: format,
		Size:   diskSize(path, d, disk.Image, p),
		Sparse: d.Sparse == nil && format == image.Qcow2 || d.Sparse != nil && *d.Sparse,
	})
	if d.Chained && disk.Image != nil {
		disk.Base = &vm.Base{
			Volume: inPool(r.config, pool, vm.Volume{
				Name:   "base-" + disk.Image.Digest + suffix(image.Qcow2),
				Format: image.Qcow2,
				Size:   disk.Image.Size,
			}),
			Staging: inPool(r.config, pool, vm.Volume{
				Name:   fmt.Sprintf("%s-%s-base%s", name, device, suffix(image.Qcow2)),
				Format: image.Qcow2,
			}),
		}
	}
	return disk
}

// suffix tells AppArmor's helper for libvirt that a file is an image.
func suffix(format string) string {
	if format == image.Qcow2 {
		return ".qcow2"
	}
	return ".img"
}

// refuseDisk names what is wrong with a disk by itself, and what is not
// supported yet.
func refuseDisk(path string, d Disk, p *problems) {
	oneOf := func(attribute, value string, supported, planned []string) {
		switch {
		case value == "" || slices.Contains(supported, value):
		case slices.Contains(planned, value):
			p.addf(path+"."+attribute, "%q is not supported yet; use %s, or leave it out", value, strings.Join(supported, " or "))
		default:
			p.addf(path+"."+attribute, "%q is none of %s", value, strings.Join(slices.Concat(supported, planned), ", "))
		}
	}
	oneOf("bus_type", d.BusType, []string{"virtio"}, []string{"scsi", "sata", "ide", "usb"})
	oneOf("kind", d.Kind, []string{"disk"}, []string{"cdrom", "lun"})
	oneOf("driver", d.Driver, []string{"qemu"}, nil)
	oneOf("format", d.Format, []string{image.Qcow2, image.Raw}, nil)
	if d.Volume != "" {
		p.addf(path+".volume", "disks on Nomad volumes are not supported yet")
	}
	source := d.Source
	if source == nil {
		source = &DiskSource{}
	}
	switch {
	case source.Image != "" && source.Volume != "":
		p.addf(path+".source", "has both an image and a volume; a disk is made from one of them")
	case source.Volume != "":
		p.addf(path+".source.volume", "is not supported yet; use an image")
	case d.Source != nil && source.Image == "":
		p.addf(path+".source.image", "is missing")
	}
	if d.Chained && source.Image == "" && source.Volume == "" {
		p.addf(path+".chained", "a chained disk overlays its source, and there is none")
	}
	if d.Chained && d.Format == image.Raw {
		p.addf(path+".format", "a chained disk has to be qcow2, raw has no overlays; leave format out")
	}
	if d.Chained && d.Sparse != nil && !*d.Sparse {
		p.addf(path+".sparse", "a chained disk is always sparse; leave it out")
	}
}

func diskPool(c Config, path string, d Disk, p *problems) string {
	pool := d.Pool
	if pool == "" {
		pool = c.StoragePools.Default
	}
	if _, isCeph := c.StoragePools.Ceph[pool]; isCeph {
		p.addf(path+".pool", "%q is a Ceph pool, which is not supported yet", pool)
	} else if _, is := c.StoragePools.Directory[pool]; !is {
		p.addf(path+".pool", "there is no storage pool %q on this host, there are: %s", pool,
			strings.Join(slices.Sorted(maps.Keys(c.StoragePools.Directory)), ", "))
	}
	return pool
}

// maxDiskSize is what a qcow2 with clusters of 64 KiB can address.
const maxDiskSize = 2 << 50

// diskSize is the size that a disk asks for, or that of its image, in whole
// blocks.
func diskSize(path string, d Disk, image *vm.Image, p *problems) vm.Bytes {
	const block = 512
	var size vm.Bytes
	switch parsed, err := humanize.ParseBytes(d.Size); {
	case d.Size == "" && image != nil:
		size = image.Size
	case d.Size == "" && d.Source == nil && d.Volume == "":
		p.addf(path+".size", "is missing; an empty disk needs it")
		return 0
	case d.Size == "":
		return 0 // the source is a problem already
	case err != nil || strings.Contains(d.Size, ","): // a decimal comma would be taken for a separator
		p.addf(path+".size", "%q is no size; write bytes, or a number and a unit: 20GB, 15GiB", d.Size)
		return 0
	case parsed == 0:
		p.addf(path+".size", "a disk of no size cannot be made")
		return 0
	case parsed > maxDiskSize:
		p.addf(path+".size", "%s is more than a disk can have, %s", d.Size, vm.Bytes(maxDiskSize))
		return 0
	default:
		size = vm.Bytes(parsed)
	}
	if image != nil && image.Size > maxDiskSize {
		p.addf(path+".source.image", "its virtual size of %s is more than a disk can have, %s", image.Size, vm.Bytes(maxDiskSize))
		return 0
	}
	if image != nil && size < image.Size {
		p.addf(path+".size", "%s is less than the image's virtual size of %s; leave it out, or make it larger", d.Size, image.Size)
	}
	return (size + block - 1) / block * block
}
