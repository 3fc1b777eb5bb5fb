package driver

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
)

// handleVersion is the format of handleState. A driver reads the formats of
// all versions before it.
const handleVersion = 1

// handleState is what Nomad keeps of a task for the driver.
type handleState struct {
	VM      string         `codec:"vm"`
	Started time.Time      `codec:"started"`
	IP      string         `codec:"ip"`
	Ports   map[string]int `codec:"ports"`
}

func (t *task) handle() (*drivers.TaskHandle, error) {
	state := handleState{VM: t.vm, Started: t.started}
	if t.network != nil {
		state.IP, state.Ports = t.network.IP, t.network.PortMap
	}
	handle := drivers.NewTaskHandle(handleVersion)
	handle.Config = t.cfg
	handle.State = drivers.TaskStateRunning
	if err := handle.SetDriverState(&state); err != nil {
		return nil, fmt.Errorf("could not write the handle of VM %s: %w", t.vm, err)
	}
	return handle, nil
}

// RecoverTask takes up a task that was started before this process, or is
// known to it already. Nomad destroys a task that cannot be recovered, so the
// only errors are those after which there is nothing to lose: while libvirt is
// away, the VM is taken to run.
func (d *Driver) RecoverTask(handle *drivers.TaskHandle) error {
	if handle == nil || handle.Config == nil {
		return errors.New("there is no handle to recover a task by")
	}
	if _, err := d.task(handle.Config.ID); err == nil {
		return nil
	}
	if handle.Version != handleVersion {
		return fmt.Errorf("the handle of task %s is of version %d, this driver knows %d", handle.Config.ID, handle.Version, handleVersion)
	}
	var state handleState
	if err := handle.GetDriverState(&state); err != nil {
		return fmt.Errorf("the handle of task %s cannot be read: %w", handle.Config.ID, err)
	}
	_, machines := d.connected()
	defer d.starts(state.VM, handle.Config.NodeID)()
	if _, err := machines.host.Running(d.ctx, state.VM); errors.Is(err, hypervisor.ErrNoDomain) {
		d.releaseGone(machines, state.VM, handle.Config)
		// Nomad will not ask for what else there was of it to be removed.
		return errors.Join(fmt.Errorf("VM %s is gone: %w", state.VM, err),
			machines.discard(d.ctx, state.VM, ended, d.tellsAtStart(handle.Config)))
	}
	var network *drivers.DriverNetwork
	if state.IP != "" {
		network = &drivers.DriverNetwork{IP: state.IP, PortMap: state.Ports}
	}
	t := newTask(handle.Config, state.VM, state.Started, network)
	d.follow(t, machines)
	go d.goOnStopping(t, machines.host)
	return nil
}

// tellsAtStart is warner for a task that is not recovered. Nomad drops its events
// until it has taken up all tasks, so they are told when this one is started anew.
func (d *Driver) tellsAtStart(cfg *drivers.TaskConfig) teller {
	return func(format string, args ...any) {
		message := fmt.Sprintf(format, args...)
		d.logger.Warn(message, "task", cfg.ID)
		d.mu.Lock()
		defer d.mu.Unlock()
		which := taskOf(cfg)
		d.untold[which] = append(d.untold[which], message)
	}
}

// tellUntold tells what could not be told of the task before this start of it.
func (d *Driver) tellUntold(cfg *drivers.TaskConfig) {
	d.mu.Lock()
	which := taskOf(cfg)
	messages := d.untold[which]
	delete(d.untold, which)
	d.mu.Unlock()
	for _, message := range messages {
		d.tell(cfg, "%s", message)
	}
}

// allocTask is a task of an allocation, whichever start of it.
type allocTask struct{ alloc, task string }

func taskOf(cfg *drivers.TaskConfig) allocTask { return allocTask{cfg.AllocID, cfg.Name} }
