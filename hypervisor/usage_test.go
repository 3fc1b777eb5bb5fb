package hypervisor

import (
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestUsageIsReadByDevice(t *testing.T) {
	at := time.Now()
	var params []libvirt.TypedParam
	number := func(field string, value uint64) {
		params = append(params, libvirt.TypedParam{Field: field, Value: *libvirt.NewTypedParamValueUllong(value)})
	}
	small := func(field string, value uint32) {
		params = append(params, libvirt.TypedParam{Field: field, Value: *libvirt.NewTypedParamValueUint(value)})
	}
	text := func(field, value string) {
		params = append(params, libvirt.TypedParam{Field: field, Value: *libvirt.NewTypedParamValueString(value)})
	}
	number("cpu.time", 5)
	small("vcpu.current", 2)
	number("balloon.current", 1024)
	small("block.count", 2)
	text("block.0.name", "vda")
	number("block.0.rd.bytes", 1)
	number("block.0.rd.reqs", 2)
	number("block.0.wr.bytes", 3)
	number("block.0.wr.reqs", 4)
	number("block.0.capacity", 5)
	number("block.0.allocation", 6)
	text("block.1.name", "sda")
	small("net.count", 1)
	text("net.0.name", "vnet3")
	number("net.0.rx.bytes", 7)
	number("net.0.tx.bytes", 8)
	number("net.0.rx.drop", 9)
	number("net.0.tx.drop", 10)
	want := Usage{
		Stats: Stats{At: at, CPU: 5}, VCPUs: 2, Memory: vm.MiB,
		Disks: []DiskUsage{
			{Name: "vda", Read: 1, Reads: 2, Written: 3, Writes: 4, Capacity: 5, Allocated: 6},
			{Name: "sda"},
		},
		Interfaces: []InterfaceUsage{{Name: "vnet3", Received: 7, Sent: 8, ReceivedDropped: 9, SentDropped: 10}},
	}
	if diff := cmp.Diff(want, usageOf(params, at)); diff != "" {
		t.Errorf("the usage (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Usage{Stats: Stats{At: at}}, usageOf(nil, at)); diff != "" {
		t.Errorf("the usage of a VM that does not answer (-want +got):\n%s", diff)
	}
}
