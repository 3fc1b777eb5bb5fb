package driver

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // the time zones, where the host has none

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/cloudinit"
	"nomad-driver-virt/console"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/share"
	"nomad-driver-virt/vm"
)

// request is everything that a plan is computed from.
type request struct {
	config   Config     // with its defaults
	task     TaskConfig // translated
	nomad    *drivers.TaskConfig
	facts    hypervisor.Facts
	sources  []source // by disk
	mounts   []mount
	links    []bridge.Link      // the host's network devices
	others   []domxml.Interface // of all domains, where the job chooses a hardware address
	userData []byte
}

// plan computes the VM of a task. It finds all that is wrong with the task's
// configuration, and is the only place that does; where it finds anything the
// VM is not to be made.
func plan(r request) (*vm.Spec, problems) {
	var p problems
	name := vmName(r.nomad.Name, r.nomad.ID)
	accel := planAccel(r, &p)
	memory, memoryMax := planMemory(r.nomad, &p)
	spec := &vm.Spec{
		Name:       name,
		Owner:      owner(r.nomad),
		Arch:       r.facts.Arch,
		Machine:    r.facts.Machine,
		Accel:      accel,
		Memory:     memory,
		MemoryMax:  memoryMax,
		CPUShares:  cpuShares(r.nomad),
		Cores:      cores(r.nomad, &p),
		Disks:      planDisks(r, name, &p),
		Interfaces: planInterfaces(r, &p),
		Shares:     planShares(r, name, &p),
		ConsoleLog: console.Log(name),
	}
	spec.VCPUs = vcpus(r.task.VCPUs, len(spec.Cores), &p)
	spec.CPUModel = cpuModel(r.config.CPUModel, r.facts, spec.Accel)
	spec.Seed = planSeed(r, name, spec.Shares, &p)
	spec.Seed.Interfaces = toldOf(spec.Interfaces)
	if len(spec.Disks) > 0 {
		pool := spec.Disks[0].Volume.Pool
		if pool == "" { // the primary disk is a Nomad volume
			pool = r.config.StoragePools.Default
		}
		spec.SeedVolume = inPool(r.config, pool, vm.Volume{Name: name + seedSuffix, Format: "raw", Sparse: true})
	}
	refuseUnsupported(r, &p)
	return spec, p
}

// seedSuffix is how the name of a VM's seed ends.
const seedSuffix = "-seed.iso"

// vmName is <task>-<last 8 of the task ID>: the name of the domain, of its
// volumes and of directories, so that what is not at home in a file name is
// replaced, and a long name cut.
func vmName(task, taskID string) string {
	return nameStem(task) + taskID[max(0, len(taskID)-taskIDTail):]
}

// taskIDTail is how much of a task's ID tells its starts apart.
const taskIDTail = 8

// nameStem is what the names of all VMs of a task begin with.
func nameStem(task string) string {
	clean := strings.TrimLeft(notInNames.ReplaceAllString(task, "-"), ".-")
	if len(clean) > maxNameStem {
		clean = clean[:maxNameStem]
	}
	if clean == "" {
		clean = "task"
	}
	return clean + "-"
}

// maxNameStem keeps names of volumes, and comments in rules, within their
// limits.
const maxNameStem = 63

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]`)

func owner(n *drivers.TaskConfig) vm.Owner {
	return vm.Owner{
		Node:      n.NodeID,
		Namespace: n.Namespace,
		Job:       n.JobID,
		Group:     n.TaskGroupName,
		Task:      n.Name,
		Alloc:     n.AllocID,
		TaskID:    n.ID,
	}
}

// planMemory returns what the guest has at first, and what it may take. Nomad sends
// the greater of memory and memory_max as the limit.
func planMemory(n *drivers.TaskConfig, p *problems) (first, most vm.Bytes) {
	if n.Resources == nil || n.Resources.NomadResources == nil || n.Resources.NomadResources.Memory.MemoryMB <= 0 {
		p.addf("resources.memory", "is missing")
		return 0, 0
	}
	first = vm.Bytes(n.Resources.NomadResources.Memory.MemoryMB) * vm.MiB
	if n.Resources.LinuxResources != nil {
		most = vm.Bytes(max(0, n.Resources.LinuxResources.MemoryLimitBytes))
	}
	return first, max(first, most)
}

// mostVCPUs is what every machine type can have that matters.
const mostVCPUs = 255

// vcpus is how many the VM has: what the job says, or one for each reserved core,
// or one.
func vcpus(asked *int, cores int, p *problems) int {
	if asked == nil {
		return max(1, cores)
	}
	switch {
	case *asked < 1 || *asked > mostVCPUs:
		p.addf("config.vcpus", "is %d, and has to be between 1 and %d", *asked, mostVCPUs)
	case cores > 0 && *asked != cores:
		p.addf("config.vcpus", "is %d, and the task's reserved cores are %d, each of which is one vCPU: "+
			"leave vcpus away, or use resources.cpu instead of resources.cores", *asked, cores)
	}
	return *asked
}

// cpuShares is the weight that Nomad gives the task.
func cpuShares(n *drivers.TaskConfig) uint64 {
	if n.Resources == nil || n.Resources.LinuxResources == nil {
		return 0
	}
	return uint64(max(0, n.Resources.LinuxResources.CPUShares))
}

// cores lists the cores that Nomad reserved for the task. Nomad sends them in
// cgroup notation.
func cores(n *drivers.TaskConfig, p *problems) []uint {
	if n.Resources == nil || n.Resources.LinuxResources == nil || n.Resources.LinuxResources.CpusetCpus == "" {
		return nil
	}
	var all []uint
	for part := range strings.SplitSeq(n.Resources.LinuxResources.CpusetCpus, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || to < from {
			p.addf("resources.cores", "Nomad sent %q, which is no set of cores", n.Resources.LinuxResources.CpusetCpus)
			return nil
		}
		for core := from; core <= to; core++ {
			all = append(all, uint(core))
		}
	}
	return all
}

func planAccel(r request, p *problems) vm.Accel {
	accel, err := r.config.accel(r.facts.Accel)
	switch {
	case err != nil && !r.facts.Native:
		p.addf("config.os.arch", "the host has no KVM for %s guests, and acceleration = \"kvm\" of the plugin wants it", r.facts.Arch)
	case err != nil:
		p.addf("plugin "+pluginBlock+" acceleration", "%s", err)
	}
	return accel
}

// cpuModel is the CPU of a guest. What the plugin's configuration names is a model
// of the host's architecture.
func cpuModel(configured string, f hypervisor.Facts, accel vm.Accel) string {
	switch {
	case configured != "" && f.Native:
		return configured
	case accel == vm.KVM:
		return vm.CPUHost
	case f.Arch == "aarch64":
		return tcgCPUOfARM
	}
	// Distributions of today are built for more than QEMU's default has.
	return vm.CPUMaximum
}

// tcgCPUOfARM has all that distributions are built for, and no pointer
// authentication, by which a kernel takes four times as long to boot where it is
// emulated.
const tcgCPUOfARM = "cortex-a72"

func planShares(r request, name string, p *problems) []vm.Share {
	kind := planShareType(r, p)
	dir := r.nomad.TaskDir()
	var shares []vm.Share
	for _, d := range []struct{ tag, source string }{
		{"alloc", dir.SharedAllocDir},
		{"local", dir.LocalDir},
		{"secrets", dir.SecretsDir},
	} {
		shares = append(shares, vm.Share{
			Type:     kind,
			Tag:      d.tag,
			Source:   d.source,
			Mount:    share.Mount(name, d.tag),
			Target:   "/" + d.tag,
			ReadOnly: true,
		})
	}
	return append(shares, planMounts(r, name, kind, p)...)
}

func planSeed(r request, name string, shares []vm.Share, p *problems) vm.Seed {
	t := r.task
	seed := vm.Seed{
		InstanceID:    name,
		Hostname:      t.Hostname,
		Timezone:      t.Timezone,
		Password:      t.DefaultUserPassword,
		AuthorizedKey: strings.TrimSpace(t.DefaultUserSSHKey),
		Cmds:          t.Cmds,
		Env:           environment(r.nomad),
		Shares:        shares,
		UserData:      r.userData,
	}
	if seed.Hostname == "" {
		seed.Hostname = defaultHostname(name)
	} else if !hostLabel.MatchString(seed.Hostname) {
		p.addf("config.hostname", "%q is no label of RFC 1123: 1 to 63 letters, digits and hyphens, none at the ends", t.Hostname)
	}
	if seed.Timezone != "" && !isTimezone(seed.Timezone) {
		p.addf("config.timezone", "%q is no known time zone; write it like Europe/Berlin", seed.Timezone)
	}
	if strings.ContainsAny(seed.Password, "\n\r\x00") {
		p.addf("config.default_user_password", "holds a line break or a zero byte, which no password can")
	}
	if strings.ContainsAny(seed.AuthorizedKey, "\n\r\x00") {
		p.addf("config.default_user_authorized_ssh_key", "holds a line break or a zero byte; it takes one key, on one line")
	}
	if err := cloudinit.CheckUserData(seed.UserData); err != nil {
		p.addf("config.user_data", "%s", err)
	}
	return seed
}

// isTimezone tells whether a name is one that guests know too, rather than one
// of the host's own: "Local", "localtime", "posix/…".
func isTimezone(name string) bool {
	area, _, _ := strings.Cut(name, "/")
	if slices.Contains([]string{"Local", "localtime", "posix", "right", "posixrules"}, area) {
		return false
	}
	_, err := time.LoadLocation(name)
	return err == nil
}

var hostLabel = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// defaultHostname is nomad-<vm name> as a label of RFC 1123; where it is too
// long it keeps its end, which tells VMs apart.
func defaultHostname(name string) string {
	const prefix, longest = "nomad-", 63
	label := notInLabels.ReplaceAllString(name, "-")
	if cut := len(label) - (longest - len(prefix)); cut > 0 {
		label = strings.TrimLeft(label[cut:], "-")
	}
	return prefix + label
}

var notInLabels = regexp.MustCompile(`[^A-Za-z0-9-]`)

func environment(n *drivers.TaskConfig) map[string]string {
	env := make(map[string]string, len(n.Env)+len(n.DeviceEnv))
	for k, v := range n.DeviceEnv {
		env[k] = v
	}
	for k, v := range n.Env {
		env[k] = v
	}
	return env
}

// refuseUnsupported names what Nomad asks for beside the task's configuration
// and this driver does not do: it is never dropped in silence.
func refuseUnsupported(r request, p *problems) {
	if len(r.nomad.Devices) > 0 {
		p.addf("resources.device", "devices of the host cannot be given to a VM yet")
	}
}
