package driver

import "nomad-driver-virt/vm"

// needsNode says what of a task's configuration only a node can tell.
func needsNode(t TaskConfig, config *Config) []string {
	var p problems
	if t.OS != nil && t.OS.Arch != "" {
		p.addf("config.os.arch", "whether the node runs %s guests", t.OS.Arch)
	}
	if t.OS != nil && t.OS.Machine != "" {
		p.addf("config.os.machine", "whether the node's QEMU has machine type %q", t.OS.Machine)
	}
	switch t.Mounts {
	case string(vm.VirtioFS):
		p.addf("config.mounts", "whether the node has virtiofs")
	case string(vm.NineP):
		p.addf("config.mounts", "whether QEMU is root on the node, which 9p takes")
	}
	if config != nil && config.Acceleration == accelerationKVM {
		p.addf("plugin "+pluginBlock+" acceleration", "whether the node has KVM")
	}
	if t.UserData != "" && !isDocument(t.UserData) {
		p.addf("config.user_data", "whether file %q is there, and what is in it", t.UserData)
	}
	for i, d := range t.Disks {
		diskNeeds(indexed("config.disk", i), d, config, &p)
	}
	for i, n := range t.NetworkInterfaces {
		interfaceNeeds(indexed("config.network_interface", i), n, config, &p)
	}
	return p
}

func diskNeeds(path string, d Disk, config *Config, p *problems) {
	if config == nil && d.Pool != "" && d.Volume == "" {
		p.addf(path+".pool", "whether the node has storage pool %q", d.Pool)
	}
	if d.Source == nil {
		return
	}
	if d.Source.Image != "" {
		p.addf(path+".source.image", "whether %q is there, may be used, and is an image that fits", d.Source.Image)
	}
	if d.Source.Volume != "" {
		p.addf(path+".source.volume", "whether the pool has volume %q, and whether that fits", d.Source.Volume)
	}
}

func interfaceNeeds(path string, n NetworkInterface, config *Config, p *problems) {
	if n.MAC != "" {
		p.addf(path+".mac", "whether no other VM of the node has hardware address %s", n.MAC)
	}
	switch b := n.Bridge; {
	case n.Macvtap != nil && n.Macvtap.Device != "" && config == nil:
		p.addf(path+".macvtap.device", "whether the node has network device %q, and does not filter what VMs send (nwfilter)", n.Macvtap.Device)
	case n.Macvtap != nil && n.Macvtap.Device != "":
		p.addf(path+".macvtap.device", "whether the node has network device %q", n.Macvtap.Device)
	case b == nil || b.Name == "":
	case len(b.Ports) > 0 && b.Address == "":
		p.addf(path+".bridge.name", "whether the node has bridge %q, and whether the guest's address is known there beforehand, or is found first, for its ports to be published", b.Name)
	case b.Address != "":
		p.addf(path+".bridge.address", "whether the node has bridge %q, and %s is free on its network", b.Name, b.Address)
	default:
		p.addf(path+".bridge.name", "whether the node has bridge %q", b.Name)
	}
}
