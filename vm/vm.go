// Package vm says what a virtual machine is: plain values that the driver's
// plan computes once and every other package reads. It does no I/O and imports
// the standard library alone.
package vm

import (
	"net/netip"
	"time"
)

// Spec is everything that is needed to make one VM. It is computed by the
// driver's plan and never changed afterwards.
type Spec struct {
	// Name names the VM everywhere: the domain, its volumes, its seed, its
	// mount points and its firewall rules all derive from it.
	Name  string
	Owner Owner

	Accel    Accel
	CPUModel string // libvirt's name of a model, or one of the CPU* constants
	Arch     string // libvirt's name; empty: the host's
	Machine  string // empty: libvirt's default for the architecture

	VCPUs  int
	Cores  []uint // host cores that the vCPUs are pinned to, one each; empty: none
	Memory Bytes

	Disks      []Disk // the primary disk first
	Interfaces []Interface
	Shares     []Share
	Seed       Seed
	SeedVolume Volume
}

// Volumes lists what is made in pools for this VM alone, and goes with it.
func (s *Spec) Volumes() []Volume {
	var all []Volume
	for _, d := range s.Disks {
		all = append(all, d.Volume)
		if d.Base != nil {
			all = append(all, d.Base.Staging)
		}
	}
	return append(all, s.SeedVolume)
}

// Owner tells which Nomad task a VM belongs to. It is written into the
// domain's metadata, where a restarted driver finds it.
type Owner struct {
	Node      string // client node ID
	Namespace string
	Job       string
	Group     string
	Task      string
	Alloc     string // allocation ID
	TaskID    string // Nomad's ID of this start of the task: alloc/task/8 hex
}

// Accel is how the guest's instructions are executed, by libvirt's name of the
// domain type.
type Accel string

// The two ways to execute a guest.
const (
	KVM Accel = "kvm"  // by the host's CPU
	TCG Accel = "qemu" // by QEMU's translator: slow, needs no CPU support
)

// CPU models that libvirt resolves on the host.
const (
	CPUHost    = "host-passthrough" // the host's own, under KVM
	CPUMaximum = "maximum"          // all that the accelerator can emulate
)

// Disk is one disk of a VM: a volume of a pool, and how the guest sees it.
type Disk struct {
	Volume   Volume
	Device   string // target name, "vda"
	Bus      string // "virtio"
	Driver   string // libvirt's disk driver, "qemu"
	ReadOnly bool

	// Image is what the volume is filled with at first; nil: an empty disk.
	Image *Image
	// Base is the volume that this disk overlays; nil: the image is copied.
	Base *Base
}

// Base is a volume that disks overlay, one for all that have the same image.
type Base struct {
	Volume
	// Staging is where this VM makes the base when the pool does not have it:
	// it becomes Volume once it is complete.
	Staging Volume
}

// Volume is a piece of storage in a pool.
type Volume struct {
	Pool   string
	Name   string
	Path   string // absolute path of the volume, as QEMU opens it
	Format string // "qcow2" or "raw"
	Size   Bytes  // virtual size
	Sparse bool
}

// Image is an image file on the host that was inspected and may be used.
type Image struct {
	Path   string // where it was found
	Format string
	Size   Bytes // virtual size
	// Version is that of the file as it was inspected: it changes when the file
	// is written.
	Version string
	// Digest identifies the content as read with Format: 32 hex digits. Only
	// images of overlays have one.
	Digest string
}

// Interface is a network interface of a VM on a bridge of the host.
type Interface struct {
	Bridge  string
	Network string // libvirt network that serves the bridge
	MAC     string // "52:54:xx:xx:xx:xx"
	Ports   []Port
}

// Port is a port of the guest that the host publishes, for TCP and UDP.
type Port struct {
	Label string         // Nomad's port label
	Host  netip.AddrPort // where the host answers
	Guest uint16         // port in the guest
}

// Publication is what a VM publishes: the rules of one VM as one value.
type Publication struct {
	VM     string
	Bridge string     // the host's bridge that the guest is on
	Guest  netip.Addr // the guest's address
	Ports  []Port
}

// ShareType is how a host directory is shown to a guest.
type ShareType string

// The two file systems that QEMU offers to a guest.
const (
	VirtioFS ShareType = "virtiofs"
	NineP    ShareType = "9p"
)

// Share is a directory of the host that the guest sees, read-only.
type Share struct {
	Type   ShareType
	Tag    string // name of the share in the guest, at most 31 bytes
	Source string // directory of the host that is shown
	// Mount is where the host mounts Source read-only: the directory that is
	// handed to QEMU.
	Mount  string
	Target string // where the guest mounts it, "/local"
}

// Seed is what cloud-init is told.
type Seed struct {
	InstanceID    string // new for every start of a task
	Hostname      string
	Timezone      string // empty: the image's
	Password      string // of the default user; empty: none is set
	AuthorizedKey string // SSH public key of the default user; empty: none
	Cmds          []string
	Env           map[string]string // the task's environment
	Shares        []Share
	UserData      []byte // the job's own user data, in any form of cloud-init
}

// Exit tells how a VM ended.
type Exit struct {
	Code    int
	Signal  int
	Err     error // nil: the guest powered off
	EndedAt time.Time
}
