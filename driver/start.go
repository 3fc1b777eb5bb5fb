package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// StartTask makes the VM of a task, starts it, and returns as soon as it runs:
// it does not wait for the guest to boot.
func (d *Driver) StartTask(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	handle, network, err := d.start(cfg)
	if err == nil {
		return handle, network, nil
	}
	if _, machines := d.connected(); machines.host.Health(d.ctx) != nil {
		// Worth another try: it may be about to come back.
		err = structs.NewRecoverableError(err, true)
	}
	return nil, nil, err
}

func (d *Driver) start(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	if _, err := d.task(cfg.ID); err == nil {
		return nil, nil, fmt.Errorf("task %s was started already", cfg.ID)
	}
	config, machines := d.connected()
	if err := machines.host.Health(d.ctx); err != nil {
		return nil, nil, err
	}
	if d.around.stopping(d.ctx) {
		return nil, nil, structs.NewRecoverableError(errors.New("the host is shutting down, no VM is started on it any more"), true)
	}
	defer d.starts(vmName(cfg.Name, cfg.ID), cfg.NodeID)()
	d.tellUntold(cfg)
	task, err := d.decode(cfg)
	if err != nil {
		return nil, nil, err
	}
	named, faults := d.find(d.ctx, config, machines.store, task, cfg)
	defer named.close()

	// Before the facts: a VM that goes in between takes what was reserved for it along.
	others, made, err := d.othersBeside(d.ctx, machines.host, task, cfg)
	defer made()
	if err != nil {
		return nil, nil, fmt.Errorf("could not tell whose the hardware address is: %w", err)
	}
	facts, err := factsFor(d.ctx, machines.host, task, &faults)
	if err != nil {
		return nil, nil, fmt.Errorf("could not tell what the host can do: %w", err)
	}
	links, err := d.around.links()
	if err != nil {
		return nil, nil, err
	}
	spec, wrong := plan(request{
		config: config, task: task, nomad: cfg, facts: facts, links: links, others: others,
		sources: named.sources, mounts: named.mounts, userData: named.userData,
	})
	if err := append(faults, wrong...).err("the task's configuration"); err != nil {
		return nil, nil, err
	}

	d.endFormer(cfg)
	if err := machines.store.EnsureFor(d.ctx, spec.Volumes()); err != nil {
		return nil, nil, err
	}
	if err := machines.removeForgotten(d.ctx, spec.Owner, d.warner(cfg)); err != nil {
		return nil, nil, err
	}
	addrs, err := machines.create(d.ctx, spec, named.inOrderOf(spec), d.teller(cfg))
	if err != nil {
		return nil, nil, err
	}
	network := driverNetwork(spec, addrs)
	d.tell(cfg, "Started VM %s%s%s", spec.Name, executedBy(spec.Accel), at(network))

	t := newTask(cfg, spec.Name, time.Now(), network)
	t.published = append([]vm.Publication{}, publications(spec, addrs)...)
	handle, err := t.handle()
	if err != nil {
		return nil, nil, errors.Join(err, machines.discard(d.ctx, spec.Name, undone, d.teller(cfg)))
	}
	d.follow(t, machines)
	return handle, network, nil
}

// factsFor reads what the host offers to the guest that a task asks for, or to its
// own where there are none like that.
func factsFor(ctx context.Context, host libvirtHost, task TaskConfig, p *problems) (hypervisor.Facts, error) {
	guests, err := host.Guests(ctx)
	if err != nil {
		return hypervisor.Facts{}, err
	}
	arch, machine := guestOS(task.OS, guests, p)
	facts, err := host.Facts(ctx, arch, machine)
	if errors.Is(err, hypervisor.ErrRefused) && machine != "" {
		p.addf("config.os.machine", "%q cannot be had on this host: %s", machine, err)
		return host.Facts(ctx, arch, "")
	}
	return facts, err
}

func executedBy(a vm.Accel) string {
	if a == vm.TCG {
		return " without KVM, which is slow"
	}
	return ""
}

func at(n *drivers.DriverNetwork) string {
	if n == nil {
		return ""
	}
	return ", its address is " + n.IP
}

// decode reads a task's configuration as it is written today.
func (d *Driver) decode(cfg *drivers.TaskConfig) (TaskConfig, error) {
	var task TaskConfig
	if err := cfg.DecodeDriverConfig(&task); err != nil {
		return task, fmt.Errorf("the task's configuration cannot be read: %w", err)
	}
	task, warnings, err := task.translate()
	for _, w := range warnings {
		d.logger.Warn("the task's configuration: "+w, "job", cfg.JobID, "task", cfg.Name)
		d.tell(cfg, "In config, %s", w)
	}
	return task, err
}

// driverNetwork is what Nomad is told of a VM's addresses: that on the first bridge.
// Services are not to advertise it by themselves: it may be private to the host.
func driverNetwork(s *vm.Spec, addrs []netip.Addr) *drivers.DriverNetwork {
	first := slices.IndexFunc(s.Interfaces, func(i vm.Interface) bool { return i.Bridge != "" })
	if first < 0 || !addrs[first].IsValid() {
		return nil
	}
	ports := make(map[string]int)
	for _, i := range s.Interfaces {
		for _, port := range i.Ports {
			ports[port.Label] = int(port.Guest)
		}
	}
	return &drivers.DriverNetwork{IP: addrs[first].String(), PortMap: ports}
}
