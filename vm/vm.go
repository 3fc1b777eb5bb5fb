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

	VCPUs     int
	Cores     []uint // host cores that the vCPUs are pinned to, one each; empty: none
	CPUShares uint64 // its part of the host's CPUs, 1024 being one usual process's; 0: the usual one
	Memory    Bytes  // that the guest has at first
	// MemoryMax is what it takes when it would have none left; Memory at least.
	MemoryMax Bytes

	Disks      []Disk // the primary disk first
	Interfaces []Interface
	Shares     []Share
	Seed       Seed
	SeedVolume Volume
	// ConsoleLog is the file that the serial console is written to; "": none.
	ConsoleLog string
}

// Volumes lists what is made in pools for this VM alone, and goes with it.
func (s *Spec) Volumes() []Volume {
	var all []Volume
	for _, d := range s.Disks {
		if d.Volume.Pool != "" {
			all = append(all, d.Volume)
		}
		if d.Base != nil && d.Base.Staging.Pool != "" {
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

// Disk is one disk of a VM: a volume of a pool or a block device, and how the
// guest sees it.
type Disk struct {
	Volume   Volume
	Device   string   // target name, "vda"
	Bus      string   // "virtio", "scsi", "sata", "ide" or "usb"
	Kind     DiskKind // what the guest takes it for
	ReadOnly bool

	// Image is what the volume is filled with at first; nil: an empty disk, or
	// one that overlays Base.
	Image *Image
	// OverwriteOnce has a block device filled with Image even if it holds data,
	// unless the file of this path exists, which is made then. "": never.
	OverwriteOnce string
	// Base is the volume that this disk overlays; nil: none.
	Base *Base
}

// DiskName is the name of the i-th disk of those that share a prefix: vda, …,
// vdz, vdaa, …
func DiskName(prefix string, i int) string {
	letters := ""
	for i++; i > 0; i = (i - 1) / 26 {
		letters = string(rune('a'+(i-1)%26)) + letters
	}
	return prefix + letters
}

// DiskKind is what a guest takes a disk for, by libvirt's name.
type DiskKind string

// The kinds of disks.
const (
	HardDisk DiskKind = "disk"
	CDROM    DiskKind = "cdrom"
	LUN      DiskKind = "lun" // a device that is given the guest's SCSI commands
)

// Base is a volume that disks overlay.
type Base struct {
	Volume
	// Staging is where this VM makes the base when the pool does not have it:
	// it becomes Volume once it is complete. It has no name where Volume is not
	// the driver's to make.
	Staging Volume
}

// Volume is a piece of storage: a volume of a pool, or a block device.
type Volume struct {
	Pool   string // libvirt's name of the pool; "": a block device of the host's
	Name   string // in its pool
	Path   string // absolute path by which QEMU opens it; "" in a Ceph pool
	RBD    *RBD   // how QEMU reaches it in a Ceph pool; nil elsewhere
	Format string // "qcow2" or "raw"
	Size   Bytes  // virtual size
	Sparse bool
	// Parent is the volume of the same pool that this one overlays; "": none.
	Parent string
	// Keep is how long it stays after its task has ended.
	Keep time.Duration
}

// RBD is a pool of a Ceph cluster, as its clients reach it. It holds no key.
type RBD struct {
	Pool     string   // Ceph's name of the pool
	Monitors []string // "host:port"; an IPv6 address is in brackets
	User     string   // Ceph's name of the client, without "client."
	Secret   string   // UUID of the libvirt secret that holds the client's key
}

// Image is an image file on the host that was inspected and may be used.
type Image struct {
	Path   string // where it was found
	Format string // "raw", "qcow2", "vmdk", "vdi", "vhdx" or "vpc"
	Size   Bytes  // virtual size
	// Version is that of the file as it was inspected: it changes when the file
	// is written.
	Version string
	// Digest identifies the content as read with Format: 32 hex digits. Only
	// images of overlays have one.
	Digest string
}

// Interface is a network interface of a VM, on a bridge of the host or beside one
// of its network devices.
type Interface struct {
	Bridge  string // "": none
	Network string // libvirt network that serves the bridge with DHCP; "": none
	MAC     string // "52:54:xx:xx:xx:xx"
	Ports   []Port
	// Reserved tells that somebody else has reserved an address for MAC: it stays.
	Reserved bool
	// Isolated tells that the bridge's network leads nowhere: the guest reaches who is on
	// the bridge, and has no way to others.
	Isolated bool

	// Device is the host's network device that a macvtap device of this Mode is
	// made on; "": none.
	Device string
	Mode   string // "bridge", "private", "vepa" or "passthrough"

	// Address is what the guest is told to take, with the length of its network's
	// prefix; invalid: what DHCP gives it.
	Address netip.Prefix
	Gateway netip.Addr   // invalid: none
	DNS     []netip.Addr // beside Address

	// Address6 is the IPv6 address that the guest is told to take; invalid: none.
	Address6 netip.Prefix
	Gateway6 netip.Addr // beside Address6

	Filter Filter
}

// Filter is what libvirt lets through of an interface's packets.
type Filter struct {
	Name string // libvirt's name of the network filter; "": everything is let through
	// Address is the only one that the guest may use. If it is invalid, it is what
	// DHCPServer gives the guest, and without that, the first one that the guest uses.
	Address    netip.Addr
	DHCPServer netip.Addr
}

// Tap is an interface of a VM that runs, as the host has it.
type Tap struct {
	Device string // "vnet0"
	Bridge string // that it is to be on
}

// Lease is an address that DHCP has given to a guest for some time.
type Lease struct {
	MAC      string
	Addr     netip.Addr
	ClientID []byte     // as the guest has said it; empty: it has not
	Server   netip.Addr // the host's address that DHCP is served at
	Bridge   string     // of the host, that the guest is or was on
}

// Port is a port of the guest that the host publishes, for TCP and UDP.
type Port struct {
	Label string         // Nomad's port label
	Host  netip.AddrPort // where the host answers
	Guest uint16         // port in the guest
	// Beside tells that nobody chose this address of the host, which is beside the
	// chosen one: the port is left to whoever else wants it.
	Beside bool
}

// Publication is what a VM publishes from one of its addresses. The host's addresses
// are of the same version of IP.
type Publication struct {
	VM     string
	Bridge string     // the host's bridge that the guest is on
	Guest  netip.Addr // the guest's address
	Ports  []Port
	// Found tells that the guest was found to have the address. Otherwise it was given it,
	// and it is to be no other VM's.
	Found bool
	// Isolated tells that the guest can answer nobody but those on its bridge.
	Isolated bool
	// AsItIs leaves what the VM publishes at these addresses of the host as it is: it is
	// not known where it is to lead, and Guest says nothing.
	AsItIs bool
}

// ShareType is how a host directory is shown to a guest.
type ShareType string

// The two file systems that QEMU offers to a guest.
const (
	VirtioFS ShareType = "virtiofs"
	NineP    ShareType = "9p"
)

// Share is a directory of the host that the guest sees.
type Share struct {
	Type   ShareType
	Tag    string // name of the share in the guest, at most 31 bytes
	Source string // directory of the host that is shown
	// Mount is where the host mounts Source: the directory that is handed to
	// QEMU. If it is read-only there, no guest can write to it.
	Mount    string
	Target   string // where the guest mounts it, "/local"
	ReadOnly bool
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
	// Interfaces are those of the VM where cloud-init is to be told how to set them
	// up; empty: it finds the only one, and asks for its address.
	Interfaces []Interface
	UserData   []byte // the job's own user data, in any form of cloud-init
}

// Exit tells how a VM ended.
type Exit struct {
	Code      int
	Signal    int
	OOMKilled bool  // the kernel ended QEMU because there was no memory left
	Err       error // nil: the guest powered off
	EndedAt   time.Time
}
