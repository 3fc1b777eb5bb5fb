package doctor

// install is what installs a package, by its names in Debian and in Red Hat's family.
func (s System) install(deb, rpm string) string {
	if s.RedHat {
		return "dnf install " + rpm
	}
	return "apt install " + deb
}

// start is what starts libvirt, now and with the host.
func (s System) start() string {
	if s.Modular {
		return "systemctl enable --now virtqemud.socket"
	}
	return "systemctl enable --now libvirtd"
}

// startNetworks is what starts that which has libvirt's networks.
func (s System) startNetworks() string {
	if s.Modular {
		return "systemctl enable --now virtnetworkd.socket"
	}
	return s.restart()
}

// installLibvirt is what installs it with QEMU and a network. Debian starts what it
// installs.
func (s System) installLibvirt(x86 bool) string {
	packages := s.install("libvirt-daemon-system "+debianQEMU(x86), "libvirt-daemon-kvm libvirt-daemon-config-network libvirt-client")
	switch {
	case !s.RedHat:
		return packages
	case s.Modular:
		return packages + " && systemctl enable --now virt{qemud,networkd,storaged,secretd,nodedevd,nwfilterd,logd}.socket"
	}
	return packages + " && " + s.start()
}

// installQEMU is what installs it for guests of the host's own architecture.
func (s System) installQEMU(x86 bool) string {
	return s.install(debianQEMU(x86), "qemu-kvm")
}

func debianQEMU(x86 bool) string {
	if x86 {
		return "qemu-system-x86"
	}
	return "qemu-system-arm"
}

// network is what has libvirt run the network default, which it knows or not.
func (s System) network(known bool) string {
	const start = "virsh net-start default && virsh net-autostart default"
	switch {
	case known:
		return start
	case s.DefaultNetwork:
		return "virsh net-define " + defaultNetwork + " && " + start
	}
	return s.install("libvirt-daemon-config-network", "libvirt-daemon-config-network") + ", which has network default; then look again"
}

// restart is what has libvirt look at the host and its settings again.
func (s System) restart() string {
	if s.Modular {
		return "systemctl restart virtqemud"
	}
	return "systemctl restart libvirtd"
}

// cephPools is what has libvirt start pools in Ceph.
func (s System) cephPools() string {
	install := s.install("libvirt-daemon-driver-storage-rbd", "libvirt-daemon-driver-storage-rbd")
	if s.Modular {
		return install + " && systemctl restart virtstoraged"
	}
	return install + " && " + s.restart()
}

// virtiofsd is what installs it.
func (s System) virtiofsd() string {
	if s.RedHat {
		return "dnf install virtiofsd"
	}
	return "apt install virtiofsd (in Debian 12 it comes with qemu-system-common)"
}
