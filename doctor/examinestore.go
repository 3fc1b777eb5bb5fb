package doctor

import (
	"cmp"
	"errors"
	"fmt"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// How much of a pool has to be free.
const (
	littleFree = 10 // percent
	noneFree   = 2
)

// pools are judged if they are the host's: whose configuration was not read has others
// than those of the plugin's defaults.
func (a *findings) pools(s Settings, f Facts) {
	if s.Agent == nil || s.Unread != nil {
		return // the agent's line says so
	}
	for _, p := range s.Pools {
		if p.Ceph != nil {
			a.cephPool(p, f)
		} else {
			a.directoryPool(p, f)
		}
	}
}

func (a *findings) cephPool(p Pool, f Facts) {
	subject := "pool " + p.Name
	answers, has := f.Ceph[p.Name], f.Libvirt.Pools[p.Name]
	if has.Err != nil {
		a.problem(subject, mendPool(p, has.Err), "%s", has.Err)
	}
	if f.Libvirt.NoCephPools {
		a.problem(subject, f.System.cephPools(), "libvirt has no storage driver for Ceph (rbd), and starts no pool there")
	}
	if answers != nil {
		a.problem(subject, "see docs/storage.md, Ceph", "%s", answers)
	}
	if has.Err == nil && !f.Libvirt.NoCephPools && answers == nil {
		a.ok(subject, "%s answers at %d monitors", p.Ceph, len(p.Ceph.Monitors))
	}
}

func (a *findings) directoryPool(p Pool, f Facts) {
	subject := "pool " + p.Name
	d, has := f.Directories[p.Path], f.Libvirt.Pools[p.Name]
	free, place := percent(d.Free, d.Size), p.Path
	if d.Missing {
		place = fmt.Sprintf("%s, in which the driver will make %s,", d.At, p.Path)
	}
	switch {
	case has.Err != nil:
		a.problem(subject, mendPool(p, has.Err), "%s", has.Err)
	case has.Other != "":
		a.problem(subject, fmt.Sprintf("name the pool %s in storage_pools of the plugin's configuration; or remove libvirt's, whose files stay: "+
			"virsh pool-destroy %s; virsh pool-undefine %s", has.Other, has.Other, has.Other),
			"libvirt has pool %s at %s, and takes no other there", has.Other, p.Path)
	case d.Missing && has.Defined:
		a.problem(subject, "mount its file system; if it is gone for good: mkdir -p "+p.Path, "its directory %s is not there", p.Path)
	case d.Err != nil:
		a.problem(subject, "correct storage_pools in the plugin's configuration", "%s", d.Err)
	case d.ReadOnly:
		a.problem(subject, remount(cmp.Or(d.At, p.Path)), "%s is on a file system that is mounted read-only", place)
	case d.Closed != "":
		a.problem(subject, f.letThrough(d.Closed), "%s does not let QEMU (%s) through to %s", d.Closed, f.Libvirt.UserName, p.Path)
	case free < noneFree:
		a.problem(subject, "grow its file system, or remove VMs and images", "%s is full, %s of %s are free: guests that write are paused", place, d.Free, d.Size)
	case free < littleFree:
		a.warn(subject, "grow its file system, or remove VMs and images", "%s is nearly full, %s of %s are free", place, d.Free, d.Size)
	case d.Missing:
		a.ok(subject, "the driver will make %s", p.Path)
	case has.Defined && !has.Active:
		a.ok(subject, "%s, %s of %s are free; the driver will start it", p.Path, d.Free, d.Size)
	default:
		a.ok(subject, "%s, %s of %s are free", p.Path, d.Free, d.Size)
	}
}

// remount has the file system of a directory be written to.
func remount(dir string) string {
	return fmt.Sprintf("mount -o remount,rw $(findmnt -n -o TARGET -T %s)", dir)
}

// letThrough has a directory let QEMU through, and nobody else if that can be.
func (f Facts) letThrough(dir string) string {
	return fmt.Sprintf("setfacl -m u:%d:x %s; or, for all users: chmod o+x %s", f.Libvirt.Runs.User, dir, dir)
}

// mendPool mends what libvirt says of a pool. One that is somebody else's stays.
func mendPool(p Pool, err error) string {
	var other hypervisor.OtherPoolError
	if !errors.As(err, &other) {
		return "virsh pool-info " + p.Name
	}
	mend := "give the pool another name in storage_pools of the plugin's configuration"
	if other.Path != "" {
		mend += fmt.Sprintf(", or path = %q", other.Path)
	}
	return mend
}

func percent(part, of vm.Bytes) int {
	if of == 0 {
		return 100 // not known
	}
	return int(float64(part) / float64(of) * 100)
}

// What QEMU takes beside the memory of its guest, in percent of that. Emulated, a
// guest of 1 GiB had one of 1.3 GiB; with KVM, it is some 100 MiB for each.
const (
	besideTCG = 30
	besideKVM = 5
)

func (a *findings) memory(s Settings, f Facts) {
	if s.Agent == nil || f.Memory == 0 {
		return
	}
	total := f.Memory
	if s.Agent.Memory > 0 {
		total = s.Agent.Memory
	}
	beside, how := vm.Bytes(besideTCG), "emulated"
	if hasKVM(f) && s.Acceleration != "tcg" {
		beside, how = besideKVM, "with KVM"
	}
	// So much that what is left has room for guests and for what is beside them. The
	// agent counts in MiB.
	need := wholeMiB(total * beside / (100 + beside))
	elsewhere := f.Memory - min(f.Memory, total)
	left := s.Agent.Reserved + elsewhere
	if left < need {
		a.warn("memory", fmt.Sprintf("write client { reserved { memory = %d } } into the agent's configuration", wholeMiB(need-elsewhere)/vm.MiB),
			"of %s, %s are not for tasks: QEMU takes about %d%% beside its guests' memory (%s), and the kernel kills it where there is none",
			f.Memory, left, beside, how)
		return
	}
	a.ok("memory", "of %s, %s are not for tasks: room for what QEMU takes beside its guests' (%s)", f.Memory, left, how)
}

// wholeMiB rounds up.
func wholeMiB(b vm.Bytes) vm.Bytes {
	return (b + vm.MiB - 1) / vm.MiB * vm.MiB
}
