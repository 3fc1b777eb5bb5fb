package driver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Check is what can be said of a task's configuration where its node is not known.
type Check struct {
	Group, Task string
	Problems    []string // for which every node would refuse the task
	Unchecked   []string // what only the node can tell
	Warnings    []string // about old names
}

// CheckJob judges the tasks of a job that ask for this driver, by the plan that
// their start would make. A configuration is that of the nodes that the job is for;
// nil: it is not known. The job has Nomad's defaults.
func CheckJob(job *api.Job, config *Config) []Check {
	var checks []Check
	for _, group := range job.TaskGroups {
		for _, task := range group.Tasks {
			if task.Driver == pluginName || task.Driver == betaDriver {
				checks = append(checks, checkTask(job, group, task, config))
			}
		}
	}
	return checks
}

func checkTask(job *api.Job, group *api.TaskGroup, task *api.Task, config *Config) Check {
	check := Check{Group: *group.Name, Task: task.Name}
	var p problems
	if task.Driver == betaDriver {
		p.addf("driver", "%q is what the first beta was called, and no node has it; write driver = %q", betaDriver, pluginName)
	}
	for i, n := range group.Networks {
		if n.Mode != "" && n.Mode != "host" {
			p.addf(fmt.Sprintf("group %q network[%d].mode", *group.Name, i), "%q is not supported by this driver; leave it out, or say host", n.Mode)
		}
	}
	cfg := nomadTaskOf(job, group, task)
	variables := variablesOf(job, group, task)
	value, wrong, err := decodeBlock(taskConfigSpec, task.Config, variables)
	if err != nil {
		wrong = []string{err.Error()}
	}
	for _, w := range wrong {
		p.addf("config", "%s", w)
	}
	if len(wrong) > 0 {
		check.Problems = p
		return check
	}
	value, unknown := placeholders(value)
	asked, warnings, err := readTask(cfg, value)
	if err != nil {
		check.Problems = slices.Concat(p, problems{err.Error()})
		return check
	}
	check.Warnings = warnings
	mounts, mountsNeed := mountsFor(group, task, variables, asked, unknown)
	certain, sometimes := planEverywhere(asked, cfg, mounts, config)
	check.Problems = slices.Concat(p, without(certain, unknown))
	check.Unchecked = slices.Concat(
		tellUnknown(unknown), without(needsNode(asked, config), unknown), mountsNeed, without(sometimes, unknown))
	return check
}

// without leaves out the problems of attributes that are not known.
func without(all problems, unknown []string) problems {
	return slices.DeleteFunc(slices.Clone(all), func(problem string) bool {
		return slices.ContainsFunc(unknown, func(path string) bool {
			rest, below := strings.CutPrefix(problem, path)
			return below && rest != "" && slices.Contains([]byte(":.["), rest[0]) ||
				// Which disk is the primary one is said of all of them.
				strings.HasSuffix(path, "].primary") && strings.HasPrefix(problem, "config.disk:")
		})
	})
}

// clientFillsIn is said of an attribute that names a variable which is not known.
const clientFillsIn = "the client fills in what it depends on"

func tellUnknown(paths []string) []string {
	var all []string
	for _, path := range paths {
		if strings.HasPrefix(path, "config.cmds") {
			continue // any text will do
		}
		all = append(all, path+": "+clientFillsIn)
	}
	return all
}

// world is a host as there may be one.
type world struct {
	machine string // type, that guests have by default
	ceph    bool   // whether pools are in Ceph, where the configuration is not known
	config  Config
	facts   hypervisor.Facts
}

// planEverywhere plans a task for each sort of host. What is wrong on all of them is
// certain; what is wrong on some, is told with what these have in common.
func planEverywhere(task TaskConfig, cfg *drivers.TaskConfig, mounts []mount, config *Config) (certain, sometimes problems) {
	worlds := worldsFor(task, config)
	found := make(map[string][]world)
	var order []string
	for _, w := range worlds {
		for _, problem := range planIn(w, task, cfg, mounts) {
			if !slices.Contains(order, problem) {
				order = append(order, problem)
			}
			found[problem] = append(found[problem], w)
		}
	}
	for _, problem := range order {
		if len(found[problem]) == len(worlds) {
			certain = append(certain, problem)
			continue
		}
		sometimes = append(sometimes, problem+" ("+inCommon(found[problem], worlds)+")")
	}
	return certain, sometimes
}

// inCommon says on which hosts something is so.
func inCommon(some, all []world) string {
	var machines []string
	for _, w := range all {
		here := func(o world) bool { return o.machine == w.machine }
		if slices.ContainsFunc(some, here) && !slices.Contains(machines, w.machine) {
			machines = append(machines, w.machine)
		}
	}
	var said []string
	isCeph := func(w world) bool { return w.ceph }
	switch {
	case !slices.ContainsFunc(some, isCeph) && slices.ContainsFunc(all, isCeph):
		said = append(said, "if the pool is a directory")
	case !slices.ContainsFunc(some, func(w world) bool { return !w.ceph }):
		said = append(said, "if the pool is in Ceph")
	}
	if slices.ContainsFunc(all, func(w world) bool { return !slices.Contains(machines, w.machine) }) {
		said = append(said, "with machine type "+strings.Join(machines, " or "))
	}
	return strings.Join(said, ", ")
}

// planIn plans a task for a host that has what the task names.
func planIn(w world, task TaskConfig, cfg *drivers.TaskConfig, mounts []mount) problems {
	r := request{config: w.config, task: task, nomad: cfg, facts: w.facts, sources: make([]source, len(task.Disks)), mounts: mounts}
	for i, d := range task.Disks {
		r.sources[i].mount = mountOf(mounts, d)
	}
	for _, n := range task.NetworkInterfaces {
		switch {
		case n.Bridge != nil:
			r.links = append(r.links, bridge.Link{Name: n.Bridge.Name, IsBridge: true})
			// With addresses to give out, whichever they are.
			r.facts.Networks = append(r.facts.Networks, domxml.Network{Bridge: n.Bridge.Name, Ranges: make([]domxml.AddressRange, 1)})
		case n.Macvtap != nil:
			r.links = append(r.links, bridge.Link{Name: n.Macvtap.Device})
		}
	}
	if isDocument(task.UserData) {
		r.userData = []byte(task.UserData)
	}
	var p problems
	arch, machine := guestOS(task.OS, guestsWith(task.OS), &p)
	r.facts.Arch, r.facts.Machine = arch, machine
	_, wrong := plan(r)
	return append(p, wrong...)
}

// guestsWith are the architectures that guests can have anywhere, of all machine
// types that a task may ask for.
func guestsWith(asked *OS) []hypervisor.GuestArch {
	var guests []hypervisor.GuestArch
	for _, arch := range domxml.Architectures() {
		guest := domxml.Guest{Arch: arch}
		if asked != nil {
			guest.Machines = []string{asked.Machine}
		}
		guests = append(guests, hypervisor.GuestArch{Guest: guest, Accel: vm.KVM})
	}
	return guests
}
