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

// restart is what has libvirt look at the host and its settings again.
func (s System) restart() string {
	if s.Modular {
		return "systemctl restart virtqemud"
	}
	return "systemctl restart libvirtd"
}

// virtiofsd is what installs it.
func (s System) virtiofsd() string {
	if s.RedHat {
		return "dnf install virtiofsd"
	}
	return "apt install virtiofsd (in Debian 12 it comes with qemu-system-common)"
}
