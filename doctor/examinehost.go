package doctor

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"

	"nomad-driver-virt/vm"
)

func (a *findings) acceleration(s Settings, f Facts) {
	const subject = "KVM"
	kvm := f.Libvirt.Facts.Accel == vm.KVM
	if f.Libvirt.Err != nil {
		kvm = f.CPU.Device == nil
	}
	switch {
	case s.Acceleration == "tcg":
		a.ok(subject, `guests are emulated (TCG), which is slow: acceleration = "tcg" asks for that`)
	case kvm:
		a.ok(subject, "guests are executed by KVM%s", f.CPU.by())
	case s.Acceleration == "kvm":
		a.problem(subject, f.CPU.mend(), `acceleration = "kvm" asks for it, and %s`, f.CPU.why())
	default:
		a.warn(subject, f.CPU.mend(), "guests are emulated (TCG), which is many times slower: %s", f.CPU.why())
	}
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

func (c CPU) mend() string {
	switch {
	case c.X86 && c.Flag == "":
		return "turn virtualization on (VT-x, AMD-V) in the firmware's settings; in a VM, nested virtualization on its host"
	case c.Device != nil && c.Flag == "svm":
		return "modprobe kvm_amd"
	case c.Device != nil && c.Flag == "vmx":
		return "modprobe kvm_intel"
	case c.Device != nil:
		return "modprobe kvm"
	}
	return "systemctl restart libvirtd, which looks for it when it starts"
}

func (a *findings) confinement(s Settings, f Facts) {
	const subject = "confinement"
	confined := strings.Join(f.Libvirt.Runs.Confined, ", ")
	if denial, is := inTheWay(f.Security.Denied, nomadDirectories(s)); is {
		a.problem(subject, denial.mend(), "AppArmor has refused %s (profile %s)", denial.Path, denial.Profile)
		return
	}
	switch {
	case confined == "":
		a.ok(subject, "neither AppArmor nor SELinux keeps QEMU from files")
	case confined == "selinux" && f.Security.Enforcing && s.Agent != nil && !readableLabel(f.Security.Label):
		dir := filepath.Clean(s.Agent.DataDir)
		a.warn(subject, "semanage fcontext -a -t svirt_image_t '"+dir+"(/.*)?' && restorecon -R "+dir,
			"SELinux confines QEMU, and %s is labelled %q, which it may not read", dir, f.Security.Label)
	case f.Security.Log != nil:
		a.warn(subject, "sudo nomad-driver-virt doctor", "%s confines QEMU; whether it has refused anything is in the kernel's log: %s", confined, f.Security.Log)
	default:
		a.ok(subject, "%s confines QEMU, and has refused it none of the driver's directories", confined)
	}
}

// inTheWay finds a refusal that is about one of some directories.
func inTheWay(denied []Denial, dirs []string) (Denial, bool) {
	for _, d := range denied {
		for _, dir := range dirs {
			if d.Path == dir || strings.HasPrefix(d.Path, dir+"/") {
				return d, true
			}
		}
	}
	return Denial{}, false
}

func (d Denial) mend() string {
	file := "/etc/apparmor.d/local/abstractions/libvirt-qemu"
	if !strings.HasPrefix(d.Profile, "libvirt-") {
		file = "the file of that profile in /etc/apparmor.d/local"
	}
	return "write '" + filepath.Dir(d.Path) + "/** rwk,' into " + file + ", then systemctl reload apparmor"
}

// readableLabel tells a label that SELinux lets QEMU read.
func readableLabel(label string) bool {
	for _, kind := range []string{"svirt_image_t", "virt_content_t", "container_file_t"} {
		if strings.Contains(label, ":"+kind+":") {
			return true
		}
	}
	return false
}

func (a *findings) networks(f Facts) {
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
		a.warn("networks", "virsh net-start default && virsh net-autostart default",
			"no network of libvirt's runs: guests are on the host's own bridges alone, or on no network")
	}
}

func (n Network) addresses() string {
	if len(n.Ranges) == 0 {
		return "; it gives out no addresses, so that ports need an address of the job's"
	}
	return ", and gives out addresses of " + n.Gateway.Masked().String()
}

func (a *findings) firewall(f Facts) {
	const subject = "firewall"
	w := f.Firewall
	switch {
	case w.NFT != nil:
		a.problem(subject, orModule(w.NFT, "apt install nftables", "modprobe nf_tables"), "no port can be published: %s", w.NFT)
	case w.Table && w.Chains:
		a.ok(subject, "nftables is there; libvirt filters by it, and has rules in iptables, too")
	case w.Table:
		a.ok(subject, "nftables is there, and libvirt filters by it")
	case w.Chains:
		a.ok(subject, "nftables is there, and libvirt filters by iptables")
	case w.IPTables != nil && w.Backend != "nftables":
		a.warn(subject, orModule(w.IPTables, "apt install iptables", "modprobe ip_tables"),
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
			"is off: published ports answer on the host alone, and guests do not reach the world; libvirt turns it on with a NAT network")
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
	file := g.File
	if file == "" {
		file = "/etc/default/libvirt-guests"
	}
	set := func(line string) string { return "write " + line + " into " + file }
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
