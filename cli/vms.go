package cli

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const listHelp = `Usage: nomad-driver-virt list [options]

Lists the VMs of this host by job, allocation and task.

` + hostOptions + `  -json          print JSON

Exit status: 0, or 1 if libvirt does not answer, or 2 if the command line is wrong.
`

// hostOptions are those of commands that ask libvirt.
const hostOptions = `  -config PATH   configuration of the Nomad agent, whose libvirt is asked: a file, or a
                 directory of them; may be repeated
  -uri URI       libvirt's URI, without a configuration qemu:///system
`

// libvirtFlags are the flags that say which libvirt is meant.
type libvirtFlags struct {
	configs several
	uri     string
}

func (f *libvirtFlags) add(flags *flag.FlagSet) {
	flags.Var(&f.configs, "config", "")
	flags.StringVar(&f.uri, "uri", "", "")
}

// host connects to libvirt, until it is left.
func (f *libvirtFlags) host(ctx context.Context) (host *hypervisor.Host, leave func(), err error) {
	settings := settingsFor(f.configs)
	if err := cmp.Or(settings.Unread, settings.Wrong); err != nil {
		return nil, nil, err
	}
	host, err = hypervisor.New(cmp.Or(f.uri, settings.URI))
	switch {
	case err != nil && f.uri != "":
		return nil, nil, usageError{err}
	case err != nil:
		return nil, nil, err
	}
	host.SetLogin(settings.User, settings.Password)
	leave, err = host.Once(ctx)
	return host, leave, err
}

// listedVM is a VM as list and stats print it for machines.
type listedVM struct {
	VM        string `json:"vm"`
	State     string `json:"state"`
	Node      string `json:"node"`
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
	Group     string `json:"group"`
	Alloc     string `json:"alloc"`
	Task      string `json:"task"`
	TaskID    string `json:"task_id"`
}

func listedOf(v hypervisor.VM) listedVM {
	o := v.Journal.Owner
	return listedVM{v.Name, v.State, o.Node, o.Namespace, o.Job, o.Group, o.Alloc, o.Task, o.TaskID}
}

func runList(ctx context.Context, s Streams, flags *flag.FlagSet, args []string) error {
	var which libvirtFlags
	which.add(flags)
	asJSON := flags.Bool("json", false, "")
	if _, err := parse(flags, args, 0, 0); err != nil {
		return err
	}
	vms, err := vmsOf(ctx, &which)
	if err != nil {
		return err
	}
	if *asJSON {
		all := []listedVM{}
		for _, v := range vms {
			all = append(all, listedOf(v))
		}
		return printJSON(s.Out, all)
	}
	return printVMs(s.Out, vms)
}

// vmsOf lists the VMs in the order of their jobs and tasks.
func vmsOf(ctx context.Context, which *libvirtFlags) ([]hypervisor.VM, error) {
	host, leave, err := which.host(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	vms, err := host.VMs(ctx)
	slices.SortFunc(vms, byTask)
	return vms, err
}

func byTask(a, b hypervisor.VM) int {
	x, y := a.Journal.Owner, b.Journal.Owner
	return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Job, y.Job), strings.Compare(x.Group, y.Group),
		strings.Compare(x.Alloc, y.Alloc), strings.Compare(x.Task, y.Task), strings.Compare(a.Name, b.Name))
}

func printVMs(w io.Writer, vms []hypervisor.VM) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAMESPACE\tJOB\tGROUP\tALLOC\tTASK\tVM\tSTATE")
	for _, v := range vms {
		o := v.Journal.Owner
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", o.Namespace, o.Job, o.Group, shortID(o.Alloc), o.Task, v.Name, v.State)
	}
	return table.Flush()
}

// shortID is as much of an ID as Nomad shows.
func shortID(id string) string { return id[:min(len(id), 8)] }

// choose finds the VMs of allocations whose IDs begin so, and of a task if that is
// not "".
func choose(vms []hypervisor.VM, alloc, task string) []hypervisor.VM {
	return slices.DeleteFunc(slices.Clone(vms), func(v hypervisor.VM) bool {
		o := v.Journal.Owner
		return !strings.HasPrefix(o.Alloc, alloc) || task != "" && o.Task != task
	})
}

// one is the only VM that is left; the error lists those that could be meant.
func one(vms []hypervisor.VM, alloc, task string) (hypervisor.VM, error) {
	chosen := choose(vms, alloc, task)
	if len(chosen) == 1 {
		return chosen[0], nil
	}
	asked := fmt.Sprintf("allocation %q", alloc)
	if task != "" {
		asked += fmt.Sprintf(" and task %q", task)
	}
	if len(chosen) > 1 {
		return hypervisor.VM{}, fmt.Errorf("%d VMs are of %s, name more of the allocation's ID, or the task:\n%s", len(chosen), asked, tableOf(chosen))
	}
	if len(vms) == 0 {
		return hypervisor.VM{}, fmt.Errorf("no VM of this host is of %s; there is none at all", asked)
	}
	return hypervisor.VM{}, fmt.Errorf("no VM of this host is of %s; there are:\n%s", asked, tableOf(vms))
}

func tableOf(vms []hypervisor.VM) string {
	var b strings.Builder
	_ = printVMs(&b, vms) // it is memory
	return strings.TrimSuffix(b.String(), "\n")
}

// sizeOf writes a size, or what stands for one that is not known.
func sizeOf(b vm.Bytes) string {
	if b == 0 {
		return "-"
	}
	return b.String()
}
