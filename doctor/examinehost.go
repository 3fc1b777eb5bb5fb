package doctor

import (
	"errors"
	"io/fs"
	"os/exec"
	"slices"

	"nomad-driver-virt/vm"
)

func (a *findings) acceleration(s Settings, f Facts) {
	const subject = "KVM"
	switch {
	case s.Acceleration == "tcg":
		a.ok(subject, `guests are emulated (TCG), which is slow: acceleration = "tcg" asks for that`)
	case hasKVM(f):
		a.ok(subject, "guests are executed by KVM%s", f.CPU.by())
	case s.Acceleration == "kvm":
		a.problem(subject, f.mendKVM(), `acceleration = "kvm" asks for it, and %s`, f.CPU.why())
	default:
		a.warn(subject, f.mendKVM(), "guests are emulated (TCG), which is many times slower: %s", f.CPU.why())
	}
}

// hasKVM tells whether libvirt offers it, or would once it answers.
func hasKVM(f Facts) bool {
	if f.Libvirt.Err != nil || f.Libvirt.NoQEMU != nil {
		return f.CPU.Device == nil && (f.CPU.Flag != "" || !f.CPU.X86)
	}
	return f.Libvirt.Facts.Accel == vm.KVM
}

func (c CPU) by() string {
	if c.Flag == "" {
		return ""
	}
	return ", the CPU has " + c.Flag
}

// why there is no KVM.
func (c CPU) why() string {
	switch {
	case c.X86 && c.Flag == "":
		return "the CPU has neither vmx nor svm"
	case c.Device != nil:
		return "/dev/kvm cannot be used: " + c.Device.Error()
	}
	return "libvirt offers none, though /dev/kvm is there"
}

func (f Facts) mendKVM() string {
	switch c := f.CPU; {
	case c.X86 && c.Flag == "":
		return "turn virtualization on (VT-x, AMD-V) in the firmware's settings; in a VM, nested virtualization on its host"
	case !f.Root && errors.Is(c.Device, fs.ErrPermission):
		return asRoot
	case c.Device != nil && c.Flag == "svm":
		return "modprobe kvm_amd"
	case c.Device != nil && c.Flag == "vmx":
		return "modprobe kvm_intel"
	case c.Device != nil:
		return "modprobe kvm"
	}
	return f.System.restart() + ", which looks for it when it starts"
}

func (a *findings) networks(f Facts) {
	if f.Libvirt.NoNetworks != nil {
		a.problem("networks", f.System.startNetworks(), "libvirt tells nothing of its networks: %s", f.Libvirt.NoNetworks)
		return
	}
	active := 0
	for _, n := range f.Libvirt.Networks {
		subject := "network " + n.Name
		switch {
		case !n.Active && n.Autostart:
			a.warn(subject, "virsh net-start "+n.Name, "does not run")
		case !n.Active: // somebody may want it so
			a.ok(subject, "does not run, and is not to start by itself")
		case n.Bridge != "" && !n.HasBridge:
			a.problem(subject, "virsh net-destroy "+n.Name+" && virsh net-start "+n.Name, "the host has no bridge %s, which is the network's", n.Bridge)
		case !n.Autostart:
			a.warn(subject, "virsh net-autostart "+n.Name, "runs on bridge %s, and does not start with libvirt", n.Bridge)
		default:
			a.ok(subject, "runs on bridge %s%s", n.Bridge, n.addresses())
		}
		if n.Active {
			active++
		}
	}
	if active == 0 {
		known := slices.ContainsFunc(f.Libvirt.Networks, func(n Network) bool { return n.Name == "default" })
		a.warn("networks", f.System.network(known),
			"no network of libvirt's runs: guests are on the host's own bridges alone, or on no network")
	}
}

func (n Network) addresses() string {
	if len(n.Ranges) == 0 {
		return "; it gives out no addresses: a guest's is the job's, or is found by its agent or ARP"
	}
	return ", and gives out addresses of " + n.Gateway.Masked().String()
}

func (a *findings) filter(s Settings, f Facts) {
	const subject = "nwfilter"
	switch {
	case s.NWFilter == "": // VMs are not filtered, as by default
	case f.Libvirt.NWFilter != nil:
		a.problem(subject, "write one that there is into the plugin's configuration (nwfilter), or define it: virsh nwfilter-define",
			"%s", f.Libvirt.NWFilter)
	default:
		a.ok(subject, "libvirt has the filter %s", s.NWFilter)
	}
}

func (a *findings) firewall(f Facts) {
	const subject = "firewall"
	w := f.Firewall
	switch {
	case w.NFT != nil:
		a.problem(subject, orModule(w.NFT, f.System.install("nftables", "nftables"), "modprobe nf_tables"), "no port can be published: %s", w.NFT)
	case w.Table && w.Chains:
		a.ok(subject, "nftables is there; libvirt filters by it, and has rules in iptables, too")
	case w.Table:
		a.ok(subject, "nftables is there, and libvirt filters by it")
	case w.Chains:
		a.ok(subject, "nftables is there, and libvirt filters by iptables")
	case w.IPTables != nil && w.Backend != "nftables":
		a.warn(subject, orModule(w.IPTables, f.System.install("iptables", "iptables-nft"), "modprobe ip_tables"),
			"libvirt filters by iptables, if it is not told otherwise, and starts no NAT network without: %s", w.IPTables)
	default:
		a.ok(subject, "nftables is there; libvirt has no rules now")
	}
}

// orModule is what mends a program that is not there, or one that the kernel refuses.
func orModule(err error, install, module string) string {
	if errors.Is(err, exec.ErrNotFound) {
		return install
	}
	return module
}

func (a *findings) kernel(f Facts) {
	k := f.Kernel
	switch {
	case k.Sysctl != nil && f.Root:
		a.problem("route_localnet", "mount -o remount,rw /proc/sys", "ports on loopback addresses cannot be published: %s", k.Sysctl)
	case k.RouteLocalnet:
		a.warn("route_localnet", "sysctl -w net.ipv4.conf.all.route_localnet=0",
			"is on for all interfaces: others reach what listens on 127.0.0.1 alone; the driver sets it for the bridges that need it, and guards those")
	default:
		a.ok("route_localnet", "is off; the driver sets it for bridges with ports on loopback addresses alone")
	}
	if k.Forwarding {
		a.ok("forwarding", "the host forwards packets to guests")
	} else {
		a.warn("forwarding", "sysctl -w net.ipv4.ip_forward=1",
			"is off: a VM with ports on other addresses than 127.0.0.1 does not start, and guests do not reach the world; "+
				"libvirt turns it on with a NAT network")
	}
	switch {
	case k.Cgroups == 0:
		a.warn("cgroups", "mount -t cgroup2 none /sys/fs/cgroup", "there are none: all VMs weigh the same, whatever resources.cpu says")
	case !k.Shares:
		a.warn("cgroups", "see cgroup_disable on the kernel's command line (/proc/cmdline)",
			"version %d, without the controller cpu: all VMs weigh the same, whatever resources.cpu says", k.Cgroups)
	default:
		a.ok("cgroups", "version %d, with the controller cpu, which resources.cpu needs", k.Cgroups)
	}
}

func (a *findings) libvirtGuests(f Facts) {
	const subject = "host's shutdown"
	g := f.Guests
	set := func(line string) string { return "write " + line + " into " + g.File }
	switch {
	case g.Err != nil:
		a.warn(subject, "systemctl status libvirt-guests",
			"whether guests are shut down when the host is, is not known: %s", g.Err)
	case !g.Active:
		a.warn(subject, "systemctl enable --now libvirt-guests", "libvirt-guests is not active: guests are killed with the host")
	case g.Set["ON_SHUTDOWN"] != "shutdown":
		a.warn(subject, set("ON_SHUTDOWN=shutdown"), "libvirt-guests saves guests to disk, and kills those with virtiofs, which cannot be saved")
	case g.Set["ON_BOOT"] != "ignore":
		a.warn(subject, set("ON_BOOT=ignore"), "libvirt-guests starts VMs at boot, and so does Nomad")
	case g.Set["PARALLEL_SHUTDOWN"] == "" || g.Set["PARALLEL_SHUTDOWN"] == "0":
		a.warn(subject, set("PARALLEL_SHUTDOWN=10"), "libvirt-guests shuts guests down one after another, and they have one SHUTDOWN_TIMEOUT together")
	default:
		a.ok(subject, "libvirt-guests shuts guests down, and leaves it to Nomad to start them")
	}
}
