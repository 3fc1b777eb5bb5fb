package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const statsHelp = `Usage: nomad-driver-virt stats [options] [ALLOC [TASK]]

Shows what the VMs of this host use that run: CPU, in percent of one core; the memory
that QEMU has, and that the guest uses of its own; and what each disk and interface has
read, written, received and sent since QEMU began. ALLOC is the beginning of an
allocation's ID.

` + hostOptions + `  -interval D    for how long the CPU is measured, 1s
  -json          print JSON; sizes in bytes, times in nanoseconds

Exit status: 0, or 1 if libvirt does not answer or has no such VM, or 2 if the command
line is wrong.
`

// measured is a VM as stats prints it for machines.
type measured struct {
	listedVM
	CPUPercent float64         `json:"cpu_percent"`
	CPUTime    time.Duration   `json:"cpu_time"`
	VCPUs      int             `json:"vcpus"`
	RSS        uint64          `json:"rss"`
	Memory     uint64          `json:"memory"`
	GuestUsed  *uint64         `json:"guest_used"` // null: the guest does not say
	Disks      []diskUsed      `json:"disks"`
	Interfaces []interfaceUsed `json:"interfaces"`
}

type diskUsed struct {
	Name      string `json:"name"`
	Read      uint64 `json:"read"`
	Written   uint64 `json:"written"`
	Reads     uint64 `json:"reads"`
	Writes    uint64 `json:"writes"`
	Capacity  uint64 `json:"capacity"`
	Allocated uint64 `json:"allocated"`
}

type interfaceUsed struct {
	Name            string `json:"name"`
	Received        uint64 `json:"received"`
	Sent            uint64 `json:"sent"`
	ReceivedDropped uint64 `json:"received_dropped"`
	SentDropped     uint64 `json:"sent_dropped"`
}

func runStats(ctx context.Context, s Streams, flags *flag.FlagSet, args []string) error {
	var which libvirtFlags
	which.add(flags)
	asJSON := flags.Bool("json", false, "")
	interval := flags.Duration("interval", time.Second, "")
	rest, err := parse(flags, args, 0, 2)
	if err != nil {
		return err
	}
	if *interval <= 0 {
		return usagef("-interval has to be longer than 0s")
	}
	host, leave, err := which.host(ctx)
	if err != nil {
		return err
	}
	defer leave()
	vms, err := host.VMs(ctx)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		alloc, task := named(rest)
		if len(choose(vms, alloc, task)) == 0 {
			_, err := one(vms, alloc, task)
			return err
		}
		vms = choose(vms, alloc, task)
	}
	all, err := measure(ctx, host, vms, *interval)
	if err != nil {
		return err
	}
	if *asJSON {
		return printJSON(s.Out, all)
	}
	return printStats(s.Out, all)
}

// named are an allocation and a task, as they are given.
func named(args []string) (alloc, task string) {
	if len(args) > 1 {
		task = args[1]
	}
	return args[0], task
}

// measure reads what VMs use that run, twice: the CPU's use is a difference.
func measure(ctx context.Context, host *hypervisor.Host, vms []hypervisor.VM, interval time.Duration) ([]measured, error) {
	before, err := host.Usage(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	after, err := host.Usage(ctx)
	if err != nil {
		return nil, err
	}
	all := []measured{}
	for _, v := range vms {
		if now, runs := after[v.Name]; runs {
			all = append(all, measuredOf(v, before[v.Name], now))
		}
	}
	return all, nil
}

func measuredOf(v hypervisor.VM, before, now hypervisor.Usage) measured {
	m := measured{
		listedVM:   listedOf(v),
		CPUTime:    now.CPU,
		VCPUs:      now.VCPUs,
		RSS:        uint64(now.RSS),
		Memory:     uint64(now.Memory),
		Disks:      []diskUsed{},
		Interfaces: []interfaceUsed{},
	}
	if passed := now.At.Sub(before.At); passed > 0 && before.CPU > 0 && now.CPU >= before.CPU {
		m.CPUPercent = 100 * float64(now.CPU-before.CPU) / float64(passed)
	}
	if g := now.Guest; g != nil {
		used := uint64(g.Available - g.Usable)
		m.GuestUsed = &used
	}
	for _, d := range now.Disks {
		m.Disks = append(m.Disks, diskUsed{
			d.Name, uint64(d.Read), uint64(d.Written), d.Reads, d.Writes, uint64(d.Capacity), uint64(d.Allocated),
		})
	}
	for _, i := range now.Interfaces {
		m.Interfaces = append(m.Interfaces, interfaceUsed{
			i.Name, uint64(i.Received), uint64(i.Sent), i.ReceivedDropped, i.SentDropped,
		})
	}
	return m
}

func printStats(w io.Writer, all []measured) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tALLOC\tTASK\tVM\tCPU\tVCPUS\tQEMU'S MEMORY\tGUEST'S MEMORY")
	for _, m := range all {
		guest := sizeOf(vm.Bytes(m.Memory))
		if m.GuestUsed != nil {
			guest = vm.Bytes(*m.GuestUsed).String() + " of " + guest
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%.1f%%\t%d\t%s\t%s\n",
			m.Job, shortID(m.Alloc), m.Task, m.VM, m.CPUPercent, m.VCPUs, sizeOf(vm.Bytes(m.RSS)), guest)
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, "VM\tDISK\tREAD\tWRITTEN\tALLOCATED\tSIZE")
	for _, m := range all {
		for _, d := range m.Disks {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
				m.VM, d.Name, vm.Bytes(d.Read), vm.Bytes(d.Written), sizeOf(vm.Bytes(d.Allocated)), sizeOf(vm.Bytes(d.Capacity)))
		}
	}
	fmt.Fprintln(table)
	fmt.Fprintln(table, "VM\tINTERFACE\tRECEIVED\tSENT\tDROPPED")
	for _, m := range all {
		for _, i := range m.Interfaces {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\n", m.VM, i.Name, vm.Bytes(i.Received), vm.Bytes(i.Sent), i.ReceivedDropped+i.SentDropped)
		}
	}
	return table.Flush()
}
