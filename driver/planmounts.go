package driver

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-virt/image"
	"nomad-driver-virt/share"
	"nomad-driver-virt/vm"
)

// mount is a volume_mount of the task, and what was found where Nomad has the
// volume on the host.
type mount struct {
	taskPath string // its destination
	hostPath string
	readOnly bool
	kind     mountKind
	size     vm.Bytes // of a block device
	err      error    // why it could not be looked at
}

type mountKind int

const (
	mountsDirectory mountKind = iota
	mountsDevice
	mountsNeither
)

// planDevice makes a disk of the block device that a task mounts: Nomad's
// volume, not a volume of a pool.
func planDevice(r request, index int, d Disk, from source, disk *vm.Disk, p *problems) {
	path := indexed("config.disk", index)
	for _, attribute := range []struct {
		name  string
		given bool
	}{
		{"size", d.Size != ""},
		{"pool", d.Pool != ""},
		{"sparse", d.Sparse != nil},
		{"chained", d.Chained},
		{"keep", d.Keep != ""},
		{"source.volume", d.Source != nil && d.Source.Volume != ""},
	} {
		if attribute.given {
			p.addf(path+"."+attribute.name, "does not go with volume: a Nomad volume is there already; leave it out")
		}
	}
	if d.Format != "" && d.Format != image.Raw {
		p.addf(path+".format", "a Nomad volume is attached raw; leave format out")
	}
	if d.Source != nil {
		oneOf(path+".source.format", d.Source.Format, p, image.Formats...)
	}
	if d.Source != nil && d.Source.Image == "" && d.Source.Volume == "" {
		p.addf(path+".source.image", "is missing; name one, or leave source out to take the volume as it is")
	}
	disk.Image = from.image
	if d.Source != nil && d.Source.Overwrite {
		disk.OverwriteOnce = filepath.Join(r.nomad.TaskDir().Dir, ".written-"+disk.Device)
	}
	m := from.mount
	if other := slices.IndexFunc(r.task.Disks, func(o Disk) bool { return o.Volume == d.Volume }); other != index {
		p.addf(path+".volume", "disk[%d] is on that volume already", other)
	}
	if m == nil {
		p.addf(path+".volume", "the task has no volume_mount with the destination %q%s", d.Volume, devicesOf(r.mounts))
		return
	}
	disk.Volume = vm.Volume{Path: m.hostPath, Format: image.Raw, Size: m.size}
	switch {
	case !strings.HasPrefix(d.Volume, "/dev/"):
		p.addf(path+".volume", "%q is not below /dev/; mount the volume there, its last part names the disk in the guest", d.Volume)
	case m.err != nil, m.kind == mountsNeither: // told of the mount
	case m.kind == mountsDirectory:
		p.addf(path+".volume", "the volume mounted at %s is no block device; leave the disk out, and the guest sees it as a directory", d.Volume)
	case from.image == nil:
	case m.readOnly:
		p.addf(path+".source", "the volume_mount is read-only, no image can be written to it; leave source out, or mount it writable")
	case from.image.Size > m.size:
		p.addf(path+".source.image", "its virtual size of %s is more than the volume has, %s; take a larger volume", from.image.Size, m.size)
	}
}

// devicesOf tells which block devices a task mounts.
func devicesOf(mounts []mount) string {
	var all []string
	for _, m := range mounts {
		if m.kind == mountsDevice {
			all = append(all, m.taskPath)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "; those of its block devices are: " + strings.Join(all, ", ")
}

// mountOf finds the mount that a disk names.
func mountOf(mounts []mount, d Disk) *mount {
	i := slices.IndexFunc(mounts, func(m mount) bool { return d.Volume != "" && m.taskPath == d.Volume })
	if i < 0 {
		return nil
	}
	return &mounts[i]
}

// planShareType chooses what a guest sees directories by: virtiofs, if the host
// has it and the job does not say otherwise.
func planShareType(r request, p *problems) vm.ShareType {
	const path = "config.mounts"
	kind, instead := vm.NineP, "install virtiofsd"
	if r.facts.VirtioFS {
		instead = "leave mounts out for virtiofs"
	}
	switch r.task.Mounts {
	case "":
		if r.facts.VirtioFS {
			kind = vm.VirtioFS
		}
	case string(vm.NineP):
	case string(vm.VirtioFS):
		kind = vm.VirtioFS
		if !r.facts.VirtioFS {
			p.addf(path, "the host has no virtiofs: install virtiofsd, or leave mounts out for 9p")
		}
	default:
		p.addf(path, "%q is neither virtiofs nor 9p", r.task.Mounts)
		return kind
	}
	// By 9p QEMU reads the files itself; virtiofsd is root whoever QEMU runs as.
	if user := r.facts.QEMUUser; kind == vm.NineP && user != "" && user != "0" {
		p.addf(path, "by 9p the guest would miss files that only root may read, since QEMU runs as user %s; "+
			"%s, or set user = \"root\" in libvirt's qemu.conf", user, instead)
	}
	return kind
}

// planMounts shows the guest the directories that the task mounts, each at its
// destination, and names those mounts that nothing is made of.
func planMounts(r request, name string, kind vm.ShareType, p *problems) []vm.Share {
	var shares []vm.Share
	for i, m := range r.mounts {
		isDisk := slices.ContainsFunc(r.task.Disks, func(d Disk) bool { return d.Volume != "" && d.Volume == m.taskPath })
		path := fmt.Sprintf("volume_mount with the destination %q", m.taskPath)
		target := filepath.Clean(m.taskPath)
		switch {
		case m.err != nil:
			p.addf(path, "%s", m.err)
		case m.kind == mountsNeither:
			p.addf(path, "%s is neither a directory nor a block device", m.hostPath)
		case m.kind == mountsDevice && !isDisk:
			p.addf(path, "the volume is a block device; name it in a disk of the task's config: disk { volume = %q }", m.taskPath)
		case m.kind != mountsDirectory || isDisk:
		case !filepath.IsAbs(m.taskPath):
			p.addf(path, "is no absolute path in the guest; begin it with /")
		case target == "/":
			p.addf(path, "is the root of the guest; mount the volume elsewhere")
		case showsAllocation(target):
			p.addf(path, "is where the guest has the allocation's directories, which it cannot write to; mount the volume elsewhere")
		case slices.ContainsFunc(shares, func(s vm.Share) bool { return s.Target == target }):
			p.addf(path, "is the destination of another volume, too; mount one of them elsewhere")
		default:
			tag := fmt.Sprintf("volume%d", i)
			shares = append(shares, vm.Share{
				Type:     kind,
				Tag:      tag,
				Source:   m.hostPath,
				Mount:    share.Mount(name, tag),
				Target:   target,
				ReadOnly: m.readOnly,
			})
		}
	}
	// A directory before those that are mounted below it.
	slices.SortFunc(shares, func(a, b vm.Share) int { return strings.Compare(a.Target, b.Target) })
	return shares
}

// showsAllocation tells whether a directory of the guest is, or is in, one that
// shows the allocation read-only.
func showsAllocation(target string) bool {
	first, _, _ := strings.Cut(target[1:], "/")
	return slices.Contains([]string{"alloc", "local", "secrets"}, first)
}
