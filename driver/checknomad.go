package driver

import (
	"fmt"
	"slices"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/zclconf/go-cty/cty"
)

// An allocation and a task of it, as there is none.
const (
	noAlloc  = "00000000-0000-0000-0000-000000000000"
	noTaskID = "00000000"
)

// nomadTaskOf is a task as Nomad would ask for it to be started, in some allocation
// on some node.
func nomadTaskOf(job *api.Job, group *api.TaskGroup, task *api.Task) *drivers.TaskConfig {
	cfg := &drivers.TaskConfig{
		ID:            noAlloc + "/" + task.Name + "/" + noTaskID,
		JobName:       *job.Name,
		JobID:         *job.ID,
		TaskGroupName: *group.Name,
		Name:          task.Name,
		AllocID:       noAlloc,
		NodeID:        noAlloc,
		AllocDir:      "/" + noAlloc,
		Env:           task.Env,
	}
	r := task.Resources
	linux := &drivers.LinuxResources{MemoryLimitBytes: int64(max(valueOf(r.MemoryMB), valueOf(r.MemoryMaxMB))) << 20}
	if cores := valueOf(r.Cores); cores > 0 {
		linux.CpusetCpus = fmt.Sprintf("0-%d", cores-1)
	}
	ports := portsOf(group.Networks, r.Networks)
	cfg.Resources = &drivers.Resources{
		NomadResources: &structs.AllocatedTaskResources{Memory: structs.AllocatedMemoryResources{MemoryMB: int64(valueOf(r.MemoryMB))}},
		LinuxResources: linux,
		Ports:          &ports,
	}
	if len(r.Devices) > 0 {
		cfg.Devices = []*drivers.DeviceConfig{{}}
	}
	return cfg
}

// portsOf lists the ports of a group by their labels. Which numbers the dynamic ones
// get, and on which address, the scheduler decides: these are for documentation.
func portsOf(networks ...[]*api.NetworkResource) structs.AllocatedPorts {
	var ports structs.AllocatedPorts
	for _, n := range slices.Concat(networks...) {
		for _, p := range slices.Concat(n.ReservedPorts, n.DynamicPorts) {
			number := p.Value
			if number == 0 {
				number = 20000 + len(ports)
			}
			ports = append(ports, structs.AllocatedPortMapping{Label: p.Label, Value: number, To: p.To, HostIP: "192.0.2.1"})
		}
	}
	return ports
}

// readTask reads a task's configuration that was decoded by its schema.
func readTask(cfg *drivers.TaskConfig, value cty.Value) (task TaskConfig, warnings []string, err error) {
	if err := cfg.EncodeDriverConfig(value); err != nil {
		return task, nil, err
	}
	if err := cfg.DecodeDriverConfig(&task); err != nil {
		return task, nil, fmt.Errorf("config cannot be read: %w", err)
	}
	return task.translate()
}

func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}
