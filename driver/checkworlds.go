package driver

import (
	"strings"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// machineBuses are the buses that QEMU's machine types have for disks, as libvirt
// tells them: what a start asks the host for.
var machineBuses = map[string][]string{
	"pc":   {"ide", "scsi", "virtio", "usb", "sata"},
	"q35":  {"scsi", "virtio", "usb", "sata"},
	"virt": {"scsi", "virtio", "usb", "sata"},
}

// machinesFor lists the machine types that the guest of a task may have.
func machinesFor(asked *OS) []string {
	arch, machine := "", ""
	if asked != nil {
		arch, machine = asked.Arch, asked.Machine
	}
	switch {
	case arch == "aarch64", strings.HasPrefix(machine, "virt"):
		return []string{"virt"}
	case machine == "q35", strings.HasPrefix(machine, "pc-q35"):
		return []string{"q35"}
	case machine == "pc", strings.HasPrefix(machine, "pc-i440fx"):
		return []string{"pc"}
	}
	return []string{"pc", "q35"}
}

// worldsFor lists the hosts that a task may come to.
func worldsFor(task TaskConfig, config *Config) []world {
	var worlds []world
	for _, machine := range machinesFor(task.OS) {
		facts := hypervisor.Facts{Native: true, Accel: vm.KVM, VirtioFS: true, Buses: machineBuses[machine]}
		if config != nil {
			worlds = append(worlds, world{machine: machine, config: *config, facts: facts})
			continue
		}
		worlds = append(worlds,
			world{machine: machine, config: poolsFor(task, false), facts: facts},
			world{machine: machine, ceph: true, config: poolsFor(task, true), facts: facts})
	}
	return worlds
}

// poolsFor is the configuration of a node that has the pools which a task names, all
// of one kind.
func poolsFor(task TaskConfig, ceph bool) Config {
	pools := StoragePools{Default: defaultPool, Directory: map[string]DirectoryPool{}, Ceph: map[string]CephPool{}}
	add := func(name string) {
		if ceph {
			pools.Ceph[name] = CephPool{Authentication: &CephAuthentication{}}
		} else {
			pools.Directory[name] = DirectoryPool{Path: defaultPoolPath}
		}
	}
	add(defaultPool)
	for _, d := range task.Disks {
		if d.Pool != "" {
			add(d.Pool)
		}
	}
	return Config{StoragePools: &pools}.withDefaults()
}
