package driver

import (
	"errors"
	"fmt"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// releaseGone releases what was reserved for a task's VM whose domain went while no
// plugin looked, and with it the list of that. A lease stays for as long as it lasts: nobody
// has seen the end of the VM's QEMU, whose guest may have the address still.
func (d *Driver) releaseGone(m *machines, name string, cfg *drivers.TaskConfig) {
	if err := d.releaseDerived(m, cfg); err != nil {
		d.logger.Warn("the domain of a VM is gone, and its addresses could not be released; virsh net-update may delete them",
			"vm", name, "error", err)
	}
}

func (d *Driver) releaseDerived(m *machines, cfg *drivers.TaskConfig) error {
	task, err := d.decode(cfg)
	if err != nil {
		return err
	}
	facts, err := m.host.Facts(d.ctx, "", "")
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range derivedInterfaces(facts.Networks, task, cfg) {
		if err := m.host.Release(d.ctx, i.Network, i.MAC); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", i.MAC, err))
		}
	}
	return errors.Join(errs...)
}

// derivedInterfaces are those of a task that are in networks which run, but for those with
// a hardware address of the job's: an administrator may have reserved addresses for these.
func derivedInterfaces(networks []domxml.Network, task TaskConfig, cfg *drivers.TaskConfig) (derived []vm.Interface) {
	for i, n := range task.NetworkInterfaces {
		if n.MAC != "" || n.Bridge == nil {
			continue
		}
		if at := networkOf(networks, n.Bridge.Name); at >= 0 {
			derived = append(derived, vm.Interface{Network: networks[at].Name, MAC: macOf(cfg.AllocID, cfg.Name, i)})
		}
	}
	return derived
}
