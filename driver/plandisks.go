package driver

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"nomad-driver-virt/image"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// source is what a disk's block names, as it was found on the host: all is nil
// where the block names nothing, or nothing that can be used.
type source struct {
	image  *vm.Image  // source.image, or source.volume where that is a file
	volume *vm.Volume // source.volume
	mount  *mount     // volume
}

// planDisks computes the disks of a VM, the primary one first.
func planDisks(r request, name string, p *problems) []vm.Disk {
	if len(r.task.Disks) == 0 {
		p.addf("config.disk", "is missing; a VM needs one: add a block disk, and in it a block source with image = \"…\"")
		return nil
	}
	primary := primaryDisk(r.task.Disks, p)
	guests := guestSides(r, primary, p)
	disks := make([]vm.Disk, len(r.task.Disks))
	for i, d := range r.task.Disks {
		disk := guests[i]
		if d.Volume != "" {
			planDevice(r, i, d, r.sources[i], &disk, p)
		} else {
			planVolume(r, name, indexed("config.disk", i), d, r.sources[i], &disk, p)
		}
		disks[i] = disk
	}
	// The first is the one that boots.
	boot := disks[primary]
	return append([]vm.Disk{boot}, slices.Delete(disks, primary, primary+1)...)
}

// primaryDisk finds the disk that the VM boots from: the only one that can be
// it, or the one that says so.
func primaryDisk(disks []Disk, p *problems) int {
	found, candidates := -1, []int{}
	for i, d := range disks {
		if d.Kind != string(vm.CDROM) {
			candidates = append(candidates, i)
		}
		path := indexed("config.disk", i) + ".primary"
		switch {
		case !d.Primary:
		case d.Kind == string(vm.CDROM):
			p.addf(path, "a CD-ROM cannot be the primary disk; a VM boots from a disk of its own")
		case found >= 0:
			p.addf(path, "disk[%d] is the primary disk already, there is only one", found)
		default:
			found = i
		}
	}
	switch {
	case found >= 0:
		return found
	case len(candidates) == 1:
		return candidates[0]
	case len(candidates) == 0:
		p.addf("config.disk", "there are CD-ROMs alone; a VM needs a disk to boot from")
	default:
		p.addf("config.disk", "none of the %d disks is primary; set primary = true in the one to boot from", len(disks))
	}
	return 0
}

// planVolume places a disk in a pool, and says what it is made from.
func planVolume(r request, name, path string, d Disk, from source, disk *vm.Disk, p *problems) {
	pool := diskPool(r.config, path, d, p)
	_, inCeph := r.config.StoragePools.Ceph[pool]
	refuseSource(path, d, p)
	if d.Source != nil {
		refuseNamed(path+".source", *d.Source, inCeph, p)
	}
	format := volumeFormat(path, d, inCeph, p)

	size := diskSize(path, d, from, p)
	disk.Image = from.image
	disk.Volume = inPool(r.config, pool, vm.Volume{
		Name:   fmt.Sprintf("%s-%s%s", name, disk.Device, suffix(format, inCeph)),
		Format: format,
		Size:   size,
		Sparse: isSparse(path, d, format, inCeph, p),
		Keep:   keepFor(path, d, p),
	})
	switch {
	case from.volume != nil && (d.Chained || inCeph): // in Ceph a clone is copy-on-write in any case
		disk.Image = nil
		disk.Base = &vm.Base{Volume: *from.volume}
		if !slices.Contains([]string{image.Raw, image.Qcow2}, from.volume.Format) {
			p.addf(path+".chained", "the volume is %s, and only raw and qcow2 are overlaid; leave chained out", from.volume.Format)
		}
	case from.image != nil && d.Chained:
		disk.Base = &vm.Base{
			Volume: inPool(r.config, pool, vm.Volume{
				Name:   "base-" + from.image.Digest + suffix(format, inCeph),
				Format: format,
				Size:   from.image.Size,
			}),
			Staging: inPool(r.config, pool, vm.Volume{
				Name:   fmt.Sprintf("%s-%s-base%s", name, disk.Device, suffix(format, inCeph)),
				Format: format,
				Size:   wholeBlocks(from.image.Size),
				Sparse: true,
			}),
		}
	}
	if disk.Base != nil {
		disk.Volume.Parent = disk.Base.Name
	}
}

// suffix tells AppArmor's helper for libvirt that a file is an image. What is in
// Ceph is no file.
func suffix(format string, inCeph bool) string {
	switch {
	case inCeph:
		return ""
	case format == image.Qcow2:
		return ".qcow2"
	}
	return ".img"
}

func diskPool(c Config, path string, d Disk, p *problems) string {
	pool := d.Pool
	if pool == "" {
		pool = c.StoragePools.Default
	}
	if !slices.Contains(c.StoragePools.names(), pool) {
		p.addf(path+".pool", "there is no storage pool %q on this host, there are: %s", pool,
			strings.Join(c.StoragePools.names(), ", "))
	}
	return pool
}

// volumeFormat is qcow2 in a directory unless the disk says otherwise, and raw
// in Ceph.
func volumeFormat(path string, d Disk, inCeph bool, p *problems) string {
	oneOf(path+".format", d.Format, p, image.Qcow2, image.Raw)
	switch {
	case inCeph && d.Format == image.Qcow2:
		p.addf(path+".format", "disks in a Ceph pool are raw; leave format out")
		return image.Raw
	case inCeph:
		return image.Raw
	case d.Chained && d.Format == image.Raw:
		p.addf(path+".format", "a chained disk has to be qcow2, raw has no overlays; leave format out")
		return image.Qcow2
	case d.Format == "":
		return image.Qcow2
	}
	return d.Format
}

func isSparse(path string, d Disk, format string, inCeph bool, p *problems) bool {
	switch {
	case d.Sparse == nil:
		return inCeph || format == image.Qcow2
	case *d.Sparse:
		return true
	case inCeph:
		p.addf(path+".sparse", "a disk in a Ceph pool is always sparse; leave it out")
	case d.Chained:
		p.addf(path+".sparse", "a chained disk is always sparse; leave it out")
	}
	return false
}

// keepFor is how long a disk stays after its task.
func keepFor(path string, d Disk, p *problems) time.Duration {
	if d.Keep == "" {
		return 0
	}
	kept, err := time.ParseDuration(d.Keep)
	if err != nil || kept < 0 {
		p.addf(path+".keep", "%q is no duration; write it like 24h or 90m", d.Keep)
		return 0
	}
	return kept
}

// refuseSource names what is wrong with the source of a disk in a pool.
func refuseSource(path string, d Disk, p *problems) {
	s := d.Source
	if s == nil {
		if d.Chained {
			p.addf(path+".chained", "a chained disk overlays its source, and there is none; add source { image = \"…\" }, or leave chained out")
		}
		if d.Kind == string(vm.CDROM) {
			p.addf(path+".source", "is missing; a CD-ROM needs an image or a volume")
		}
		return
	}
	switch {
	case s.Image != "" && s.Volume != "":
		p.addf(path+".source", "has both an image and a volume; a disk is made from one of them")
	case s.Image == "" && s.Volume == "":
		p.addf(path+".source", "has neither an image nor a volume; name one, or leave source out for an empty disk")
	}
	if s.Overwrite {
		p.addf(path+".source.overwrite", "is for disks on Nomad volumes; other disks are new for each start of the task")
	}
}

// refuseNamed names what is wrong with a source by its names alone, whatever the host
// has: what is refused here need not be looked for.
func refuseNamed(path string, s DiskSource, inCeph bool, p *problems) {
	oneOf(path+".format", s.Format, p, image.Formats...)
	if s.Volume == "" {
		return
	}
	if inCeph && s.Format != image.Raw && slices.Contains(image.Formats, s.Format) {
		p.addf(path+".format", "volumes of a Ceph pool are raw, not %s; leave it out", s.Format)
	}
	if err := storage.RefuseName(s.Volume, inCeph); err != nil {
		p.addf(path+".volume", "%s", err)
	}
}

// maxDiskSize is what a qcow2 with clusters of 64 KiB can address.
const maxDiskSize vm.Bytes = 2 << 50

// maxImpliedSize is the largest disk that an image alone decides on: more is
// rather a mistake, or a trap, than what somebody wants.
const maxImpliedSize vm.Bytes = 8 << 40

// diskSize is the size that a disk asks for, or that of its source, in whole
// blocks.
func diskSize(path string, d Disk, from source, p *problems) vm.Bytes {
	var least vm.Bytes // the source's
	what := ""
	switch {
	case from.image != nil && d.Source.Image != "":
		least, what = from.image.Size, "image"
	case from.volume != nil:
		least, what = from.volume.Size, "volume"
	}
	if least > maxDiskSize {
		p.addf(path+".source."+what, "its virtual size of %s is more than a disk can have, %s", least, maxDiskSize)
		return 0
	}
	if d.Size == "" {
		switch {
		case least > maxImpliedSize:
			p.addf(path+".source."+what, "its virtual size is %s; if that is meant, say so: size = \"%d\"", least, uint64(least))
		case d.Source == nil && !d.Chained && d.Kind != string(vm.CDROM): // those need a source
			p.addf(path+".size", "is missing; an empty disk needs it")
		}
		return wholeBlocks(least)
	}
	size, ok := parseSize(path+".size", d.Size, p)
	if ok && size < least {
		p.addf(path+".size", "%s is less than the %s's virtual size of %s; leave it out, or make it larger", d.Size, what, least)
	}
	return wholeBlocks(size)
}

func parseSize(path, text string, p *problems) (vm.Bytes, bool) {
	switch size, err := humanize.ParseBytes(text); {
	case err != nil || strings.Contains(text, ","): // a decimal comma would be taken for a separator
		p.addf(path, "%q is no size; write bytes, or a number and a unit: 20GB, 15GiB", text)
	case size == 0:
		p.addf(path, "a disk of no size cannot be made; write a number and a unit, as in 15GiB")
	case vm.Bytes(size) > maxDiskSize:
		p.addf(path, "%s is more than a disk can have, %s", text, maxDiskSize)
	default:
		return vm.Bytes(size), true
	}
	return 0, false
}

// wholeBlocks rounds a size up to what a disk can have: libvirt makes a qcow2 of
// whole KiB.
func wholeBlocks(size vm.Bytes) vm.Bytes {
	return (size + vm.KiB - 1) / vm.KiB * vm.KiB
}

// inPool places a volume in a pool of either kind.
func inPool(c Config, pool string, v vm.Volume) vm.Volume {
	v.Pool = pool
	if ceph, is := c.StoragePools.Ceph[pool]; is {
		v.RBD = ceph.rbd(pool)
		return v
	}
	v.Path = filepath.Join(c.StoragePools.Directory[pool].Path, v.Name)
	return v
}

// oneOf refuses a value that is none of those there are; "" stands for the
// default.
func oneOf(path, value string, p *problems, all ...string) {
	if value != "" && !slices.Contains(all, value) {
		p.addf(path, "%q is none of %s", value, strings.Join(all, ", "))
	}
}
