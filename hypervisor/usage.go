package hypervisor

import (
	"context"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/vm"
)

// Usage is Stats, and what a VM has done with each of its devices.
type Usage struct {
	Stats
	VCPUs      int
	Memory     vm.Bytes // that the guest has now; zero: not known
	Disks      []DiskUsage
	Interfaces []InterfaceUsage
}

// DiskUsage is about one disk, since QEMU began.
type DiskUsage struct {
	Name          string // "vda"
	Read, Written vm.Bytes
	Reads, Writes uint64 // requests
	// Capacity is the size that the guest sees, and Allocated what it takes in its
	// pool; zero: not known.
	Capacity, Allocated vm.Bytes
}

// InterfaceUsage is about one network interface, as the host sees it: what the guest
// has sent is Sent. Since QEMU began.
type InterfaceUsage struct {
	Name           string // of the host's device, "vnet0"
	Received, Sent vm.Bytes
	// Packets that were lost on the way to the guest, or from it.
	ReceivedDropped, SentDropped uint64
}

// Usage reads what all VMs that run have used, by name, in one call, as Stats does.
func (h *Host) Usage(ctx context.Context) (map[string]Usage, error) {
	return ofEach(ctx, h, libvirt.DomainStatsCPUTotal|libvirt.DomainStatsBalloon|libvirt.DomainStatsVCPU|
		libvirt.DomainStatsInterface|libvirt.DomainStatsBlock, usageOf)
}

func usageOf(params []libvirt.TypedParam, at time.Time) Usage {
	numbers, names := make(map[string]uint64), make(map[string]string)
	for _, p := range params {
		switch v := p.Value.I.(type) {
		case uint64:
			numbers[p.Field] = v
		case uint32:
			numbers[p.Field] = uint64(v)
		case string:
			names[p.Field] = v
		}
	}
	u := Usage{
		Stats:  statsOf(params, at),
		VCPUs:  int(numbers["vcpu.current"]),
		Memory: vm.Bytes(numbers[libvirt.DomainStatsBalloonCurrent]) * vm.KiB,
	}
	for i := range numbers[libvirt.DomainStatsBlockCount] {
		of := fmt.Sprintf("block.%d.", i)
		u.Disks = append(u.Disks, DiskUsage{
			Name:      names[of+"name"],
			Read:      vm.Bytes(numbers[of+"rd.bytes"]),
			Written:   vm.Bytes(numbers[of+"wr.bytes"]),
			Reads:     numbers[of+"rd.reqs"],
			Writes:    numbers[of+"wr.reqs"],
			Capacity:  vm.Bytes(numbers[of+"capacity"]),
			Allocated: vm.Bytes(numbers[of+"allocation"]),
		})
	}
	for i := range numbers[libvirt.DomainStatsNetCount] {
		of := fmt.Sprintf("net.%d.", i)
		u.Interfaces = append(u.Interfaces, InterfaceUsage{
			Name:            names[of+"name"],
			Received:        vm.Bytes(numbers[of+"rx.bytes"]),
			Sent:            vm.Bytes(numbers[of+"tx.bytes"]),
			ReceivedDropped: numbers[of+"rx.drop"],
			SentDropped:     numbers[of+"tx.drop"],
		})
	}
	return u
}
