package doctor

import (
	"time"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Facts is what was found on a host. Of what could not be looked at, an error says
// why.
type Facts struct {
	Root   bool      // whether this runs as root
	System System    // how this host is mended
	Now    time.Time // when this was found

	CPU        CPU
	Libvirt    Libvirt
	Security   Security
	NineP      error // why QEMU has no 9p; nil: it has
	QemuImg    error // why the program is not to be had
	QemuImgRBD error // why it does not read volumes in Ceph
	Prlimit    error // why the program is not to be had

	Directories map[string]Directory // by path: those of images, of pools and of Nomad
	Ceph        map[string]error     // by pool: why it cannot be used

	Firewall Firewall
	Kernel   Kernel
	Guests   LibvirtGuests
	Memory   vm.Bytes
	Plugin   Plugin
}

// System is what mends depend on.
type System struct {
	RedHat  bool // it is of that family: dnf installs packages, settings are in /etc/sysconfig
	Modular bool // libvirt is several daemons, of which virtqemud has the VMs
	// NoLibvirt tells that there is none, rather than that it does not run, and
	// DefaultNetwork that the host has the definition of libvirt's network default.
	NoLibvirt, DefaultNetwork bool
}

// CPU is what the processor and the kernel have for KVM.
type CPU struct {
	Flag   string // "vmx" or "svm"
	X86    bool   // whether there are such flags at all
	Device error  // why /dev/kvm cannot be opened
}

// Libvirt is what it says of itself and of what it has.
type Libvirt struct {
	Err           error              // why it does not answer; then all the rest is not known
	NoQEMU        error              // why it makes no VMs; then the facts are not known
	Version, QEMU hypervisor.Version // QEMU's is 0 where it is not known
	Facts         hypervisor.Facts   // for guests of the host's own architecture
	Runs          domxml.QEMU
	UserName      string // of whom QEMU runs as
	Networks      []Network
	NoNetworks    error                // why it does not tell of them: a daemon of its own may have them
	Pools         map[string]PoolState // by name
	NoCephPools   bool                 // it lacks what starts pools in Ceph
	NWFilter      error                // why the configured one cannot be used
}

// Network is a network of libvirt's.
type Network struct {
	hypervisor.NetworkState
	HasBridge bool // whether the host has its bridge
}

// PoolState is what libvirt has by the name of a pool.
type PoolState struct {
	hypervisor.PoolState
	Err   error  // what is wrong with it
	Other string // the pool that it has at the directory, by another name; "": none
}

// Security is what keeps QEMU from files.
type Security struct {
	// Denied are files that AppArmor has refused to QEMU or its helpers, as far as
	// the kernel's log reaches back.
	Denied []Denial
	Log    error // why it cannot be read
	// Enforcing tells that SELinux is, and Labels what Nomad's allocations and the
	// directories of pools have there, by path; "": none.
	Enforcing bool
	Labels    map[string]string
}

// Denial is a refusal of AppArmor's.
type Denial struct {
	Profile, Path string
	Mask          string    // what was refused, as AppArmor writes it
	At            time.Time // the last one of these; zero: not known
}

// Directory is a directory of the host.
type Directory struct {
	Err      error // why it is none, or cannot be looked at
	Missing  bool
	At       string // of a pool's: where the rest is from, the nearest that is there
	ReadOnly bool
	// Closed is the directory that leads there and does not let QEMU through; "":
	// none.
	Closed     string
	Free, Size vm.Bytes
}

// Firewall is how packets are filtered.
type Firewall struct {
	NFT, IPTables error  // why the programs cannot be used
	Table         bool   // libvirt has rules in an nftables table of its own
	Chains        bool   // libvirt has rules in iptables
	Backend       string // what libvirt's configuration asks for
}

// Kernel is what it is set to.
type Kernel struct {
	RouteLocalnet bool  // of all interfaces
	Sysctl        error // why settings of interfaces cannot be changed
	Forwarding    bool
	Cgroups       int  // version; 0: there are none
	Shares        bool // whether control groups share out CPUs
}

// LibvirtGuests is the service that sees to VMs when the host shuts down.
type LibvirtGuests struct {
	Err    error // why it is not known whether it does
	Active bool
	File   string            // its settings
	Set    map[string]string // by name
}

// Plugin is what is in Nomad's plugin_dir.
type Plugin struct {
	Path  string
	Own   string // the path of the program that this is
	Err   error  // why it cannot be executed
	Other bool   // it is not the program that this is
	// Left are plugins of others in Nomad's default for plugin_dir, Default, which is
	// not the client's.
	Default string
	Left    []string
}
