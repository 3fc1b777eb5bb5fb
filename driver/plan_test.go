package driver

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/cloudinit"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

const imageSize = 3 * vm.GiB

// newRequest is a request to plan a task of some configuration on a host that
// has neither KVM nor virtiofs, with two directories and a Ceph pool, where all
// images and volumes that the task names are found.
func newRequest(t *testing.T, config string) request {
	t.Helper()
	d, _ := newDriver(t)
	task, err := decodeTask(d, config)
	if err != nil {
		t.Fatal(err)
	}
	r := request{
		config: emptyConfig(),
		task:   task,
		nomad:  nomadTask(),
		facts: hypervisor.Facts{
			Arch:   "x86_64",
			Native: true,
			Accel:  vm.TCG,
			Buses:  []string{"ide", "fdc", "scsi", "virtio", "usb", "sata"},
			Networks: []domxml.Network{
				network("default", "virbr0", "192.168.122.2", "192.168.122.254"),
				network("lab", "virbr7", "10.0.7.2", "10.0.7.9"),
			},
		},
		links: []bridge.Link{
			{Name: "br-lan", IsBridge: true}, {Name: "eth0"}, {Name: "virbr0", IsBridge: true}, {Name: "virbr7", IsBridge: true},
		},
		sources: make([]source, len(task.Disks)),
	}
	if len(task.NetworkInterfaces) == 0 {
		r.nomad.Resources.Ports = nil
	}
	r.config.StoragePools.Directory["fast"] = DirectoryPool{Path: "/srv/fast"}
	r.config.StoragePools.Ceph = map[string]CephPool{"remote": cephPool("192.0.2.1:3300", "2001:db8::1")}
	for i, disk := range task.Disks {
		r.sources[i] = sourceOf(r.config, disk)
	}
	return r
}

// cephPool is a pool of a cluster of some monitors.
func cephPool(monitors ...string) CephPool {
	return CephPool{
		Pool:           "rbd",
		Hosts:          monitors,
		Authentication: &CephAuthentication{Username: "nomad", Secret: "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="},
	}
}

// sourceOf is what is found of what a disk names: every image and every volume
// is a qcow2, or raw in Ceph, of the same size.
func sourceOf(c Config, disk Disk) source {
	if disk.Source == nil {
		return source{}
	}
	found := &vm.Image{Format: image.Qcow2, Size: imageSize}
	if disk.Chained {
		found.Digest = strings.Repeat("0123456789abcdef", 2)
	}
	switch s := disk.Source; {
	case s.Image != "":
		found.Path = filepath.Join("/var/lib/virt/images", s.Image)
		return source{image: found}
	case s.Volume == "" || disk.Volume != "":
		return source{}
	}
	pool := disk.Pool
	if pool == "" {
		pool = c.StoragePools.Default
	}
	volume := inPool(c, pool, vm.Volume{Name: disk.Source.Volume, Format: image.Qcow2, Size: imageSize})
	if volume.RBD != nil {
		volume.Format = image.Raw
		return source{volume: &volume}
	}
	found.Path = volume.Path
	return source{image: found, volume: &volume}
}

// mounting has a task mount volumes.
func mounting(mounts ...mount) func(*request) {
	return func(r *request) {
		r.mounts = mounts
		for i, disk := range r.task.Disks {
			r.sources[i].mount = mountOf(r.mounts, disk)
		}
	}
}

func network(name, on, first, last string) domxml.Network {
	gateway := netip.MustParseAddr(first).Prev()
	return domxml.Network{Name: name, Bridge: on, Gateway: netip.PrefixFrom(gateway, 24), LeadsOut: true, Ranges: []domxml.AddressRange{
		{First: netip.MustParseAddr(first), Last: netip.MustParseAddr(last)},
	}}
}

// mustPlan plans what has no problems.
func mustPlan(t *testing.T, r request) *vm.Spec {
	t.Helper()
	spec, p := plan(r)
	if len(p) != 0 {
		t.Fatalf("the plan has problems, want none:\n%s", strings.Join(p, "\n"))
	}
	return spec
}

func TestPlanRefusesKVMWhereThereIsNone(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*hypervisor.Facts)
		want   string
	}{
		{"on the host", func(*hypervisor.Facts) {}, "kvm is asked for, and libvirt offers none on this host"},
		{"for ARM", onARM, `config.os.arch: the host has no KVM for aarch64 guests, and acceleration = "kvm" of the plugin wants it`},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRequest(t, oneDisk)
			r.config.Acceleration = accelerationKVM
			test.change(&r.facts)
			_, p := plan(r)
			if len(p) != 1 || !strings.Contains(p[0], test.want) {
				t.Errorf("the problems are %q, want one: %s", p, test.want)
			}
		})
	}
}

// onARM makes the facts those of a guest that is emulated on a PC.
func onARM(f *hypervisor.Facts) {
	f.Arch, f.Native, f.Machine = "aarch64", false, "virt"
	f.Accel, f.Buses = vm.TCG, virt
}

// refusal is a task that cannot be planned, and why.
type refusal struct {
	name   string
	config string         // of the task
	change func(*request) // nil: nothing
	want   []string       // nil: the task is fine
}

func testRefusals(t *testing.T, refusals []refusal) {
	t.Helper()
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			r := newRequest(t, test.config)
			if test.change != nil {
				test.change(&r)
			}
			_, p := plan(r)
			if diff := cmp.Diff(test.want, []string(p), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanOfTheExample(t *testing.T) {
	golden(t, "plan-copied.json", mustPlan(t, newRequest(t, exampleTask)))
}

func TestPlanOfAChainedDiskOnAModernHost(t *testing.T) {
	r := newRequest(t, `disk { chained = true source { image = "debian-12.qcow2" } }`)
	r.facts.Accel, r.facts.VirtioFS = vm.KVM, true
	r.nomad.Resources.LinuxResources.CpusetCpus = "4-5"
	golden(t, "plan-chained.json", mustPlan(t, r))
}

const oneDisk = `disk { source { image = "a.img" } } `

func TestPlanRefusesGuests(t *testing.T) {
	userData := func(s string) refusal {
		return refusal{
			name:   "user data: " + s,
			config: oneDisk,
			change: func(r *request) { r.userData = []byte(s) },
			want:   []string{"config.user_data: " + fmt.Sprint(cloudinit.CheckUserData([]byte(s)))},
		}
	}
	testRefusals(t, []refusal{
		{name: "key with a line break behind", config: oneDisk + `default_user_authorized_ssh_key = "ssh-ed25519 AAAA me\n"`},
		{
			name:   "two keys",
			config: oneDisk + `default_user_authorized_ssh_key = "ssh-ed25519 AAAA me\nssh-ed25519 BBBB you"`,
			want:   []string{"config.default_user_authorized_ssh_key: holds a line break or a zero byte; it takes one key, on one line"},
		},
		{
			name:   "password with a line break",
			config: oneDisk + `default_user_password = "hush\nroot:hush"`,
			want:   []string{"config.default_user_password: holds a line break or a zero byte, which no password can"},
		},

		userData("#cloud-config\nruncmd: [date"),
		userData("#cloud-config\nruncmd: date\n"),
		userData("no form of cloud-init's"),

		{name: "mounts by 9p", config: oneDisk + `mounts = "9p"`},
		{
			name:   "mounts by virtiofs",
			config: oneDisk + `mounts = "virtiofs"`,
			change: func(r *request) { r.facts.VirtioFS = true },
		},
		{
			name:   "mounts by 9p where QEMU is another user",
			config: oneDisk + `mounts = "9p"`,
			change: func(r *request) { r.facts.VirtioFS, r.facts.QEMUUser = true, "64055" },
			want: []string{"config.mounts: by 9p the guest would miss files that only root may read, since QEMU runs as user 64055; " +
				`leave mounts out for virtiofs, or set user = "root" in libvirt's qemu.conf`},
		},
		{
			name:   "no virtiofs where QEMU is another user",
			config: oneDisk,
			change: func(r *request) { r.facts.QEMUUser = "64055" },
			want: []string{"config.mounts: by 9p the guest would miss files that only root may read, since QEMU runs as user 64055; " +
				`install virtiofsd, or set user = "root" in libvirt's qemu.conf`},
		},
		{
			name:   "mounts by virtiofs where QEMU is another user",
			config: oneDisk,
			change: func(r *request) { r.facts.VirtioFS, r.facts.QEMUUser = true, "64055" },
		},
		{
			name:   "mounts by 9p where QEMU is root",
			config: oneDisk + `mounts = "9p"`,
			change: func(r *request) { r.facts.QEMUUser = "0" },
		},
		{
			name:   "mounts by what the host does not have",
			config: oneDisk + `mounts = "virtiofs"`,
			want:   []string{"config.mounts: the host has no virtiofs: install virtiofsd, or leave mounts out for 9p"},
		},
		{
			name:   "mounts by what nobody has",
			config: oneDisk + `mounts = "nfs"`,
			want:   []string{`config.mounts: "nfs" is neither virtiofs nor 9p`},
		},
	})
}

func TestPlanRefusesTimezones(t *testing.T) {
	for timezone, fine := range map[string]bool{
		"Europe/Berlin":    true,
		"UTC":              true,
		"Local":            false, // the host's
		"Mars/Olympus":     false,
		"../../etc/passwd": false,
		"UTC\n":            false,
		"localtime":        false,
		"posix/UTC":        false,
		"right/UTC":        false,
	} {
		r := newRequest(t, oneDisk)
		r.task.Timezone = timezone
		var want []string
		if !fine {
			want = []string{fmt.Sprintf("config.timezone: %q is no known time zone; write it like Europe/Berlin", timezone)}
		}
		_, p := plan(r)
		if diff := cmp.Diff(want, []string(p), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the problems of timezone = %q (-want +got):\n%s", timezone, diff)
		}
	}
}

func TestPlanRefusesResources(t *testing.T) {
	memory := func(name string, change func(*drivers.Resources)) refusal {
		return refusal{
			name:   name,
			config: oneDisk,
			change: func(r *request) { change(r.nomad.Resources) },
			want:   []string{"resources.memory: is missing"},
		}
	}
	cores := func(set string) refusal {
		return refusal{
			name:   "cores " + set,
			config: oneDisk,
			change: func(r *request) { r.nomad.Resources.LinuxResources.CpusetCpus = set },
			want:   []string{fmt.Sprintf("resources.cores: Nomad sent %q, which is no set of cores", set)},
		}
	}
	testRefusals(t, []refusal{
		memory("no resources", func(r *drivers.Resources) { *r = drivers.Resources{} }),
		memory("no memory", func(r *drivers.Resources) { r.NomadResources.Memory.MemoryMB = 0 }),
		memory("less than no memory", func(r *drivers.Resources) { r.NomadResources.Memory.MemoryMB = -1 }),
		cores("a"), cores("1-"), cores("-1"), cores("1,,2"), cores("1-2-3"), cores("99999"),
		{
			name:   "devices",
			config: oneDisk,
			change: func(r *request) {
				r.nomad.Devices = []*drivers.DeviceConfig{{HostPath: "/dev/a"}, {HostPath: "/dev/b"}}
			},
			want: []string{"resources.device: devices of the host cannot be given to a VM yet"},
		},
		{
			name:   "everything at once",
			config: `hostname = "-" mounts = "nfs" disk { bus_type = "nvme" } network_interface { macvtap { device = "eth9" } }`,
			change: func(r *request) { r.nomad.Resources = nil },
			want: []string{
				"resources.memory: is missing",
				`config.disk[0].bus_type: "nvme" is none of virtio, scsi, sata, ide, usb`,
				"config.disk[0].size: is missing; an empty disk needs it",
				`config.network_interface[0].macvtap.device: the host has no network device "eth9"; it has br-lan, eth0, virbr0, virbr7`,
				`config.mounts: "nfs" is neither virtiofs nor 9p`,
				`config.hostname: "-" is no label of RFC 1123: 1 to 63 letters, digits and hyphens, none at the ends`,
			},
		},
	})
}

func TestVCPUsAreWhatTheJobSays(t *testing.T) {
	onCores := func(set string) func(*request) {
		return func(r *request) { r.nomad.Resources.LinuxResources.CpusetCpus = set }
	}
	testRefusals(t, []refusal{
		{name: "two, without cores", config: "vcpus = 2\n" + oneDisk, change: onCores("")},
		{name: "as many as cores", config: "vcpus = 2\n" + oneDisk, change: onCores("4-5")},
		{
			name: "more than cores", config: "vcpus = 3\n" + oneDisk, change: onCores("4-5"),
			want: []string{"config.vcpus: is 3, and the task's reserved cores are 2, each of which is one vCPU: " +
				"leave vcpus away, or use resources.cpu instead of resources.cores"},
		},
		{
			name: "none", config: "vcpus = 0\n" + oneDisk, change: onCores(""),
			want: []string{"config.vcpus: is 0, and has to be between 1 and 255"},
		},
		{
			name: "too many", config: "vcpus = 256\n" + oneDisk, change: onCores(""),
			want: []string{"config.vcpus: is 256, and has to be between 1 and 255"},
		},
	})
	r := newRequest(t, "vcpus = 3\n"+oneDisk)
	onCores("")(&r)
	if spec := mustPlan(t, r); spec.VCPUs != 3 || spec.Cores != nil {
		t.Errorf("%d vCPUs, pinned to %v, want 3 that are not pinned", spec.VCPUs, spec.Cores)
	}
}

func TestMemoryMaxAndSharesAreNomads(t *testing.T) {
	r := newRequest(t, oneDisk)
	r.nomad.Resources.NomadResources.Memory.MemoryMB = 512
	for limit, want := range map[int64]vm.Bytes{0: 512 * vm.MiB, 512 << 20: 512 * vm.MiB, 1 << 30: vm.GiB} {
		r.nomad.Resources.LinuxResources.MemoryLimitBytes = limit
		if spec := mustPlan(t, r); spec.Memory != 512*vm.MiB || spec.MemoryMax != want {
			t.Errorf("a limit of %d: memory %s, at most %s, want 512 MiB and %s", limit, spec.Memory, spec.MemoryMax, want)
		}
	}
	r.nomad.Resources.LinuxResources.CPUShares = 500
	if spec := mustPlan(t, r); spec.CPUShares != 500 {
		t.Errorf("%d CPU shares, want Nomad's 500", spec.CPUShares)
	}
}

func TestVCPUsAreTheReservedCores(t *testing.T) {
	for _, test := range []struct {
		cpuset string
		cores  []uint
		vcpus  int
	}{
		{"", nil, 1},
		{"3", []uint{3}, 1},
		{"0-2,5", []uint{0, 1, 2, 5}, 4},
		{"1, 3", []uint{1, 3}, 2},
		{"8-9,12-12", []uint{8, 9, 12}, 3},
	} {
		r := newRequest(t, oneDisk)
		r.nomad.Resources.LinuxResources.CpusetCpus = test.cpuset
		spec := mustPlan(t, r)
		if diff := cmp.Diff(test.cores, spec.Cores); diff != "" || spec.VCPUs != test.vcpus {
			t.Errorf("cores %q: %d vCPUs, pinned to %v, want %d, pinned to %v",
				test.cpuset, spec.VCPUs, spec.Cores, test.vcpus, test.cores)
		}
	}
}

func TestAccelerationAndCPUModel(t *testing.T) {
	for _, test := range []struct {
		config    string // of the plugin
		offered   vm.Accel
		accel     vm.Accel
		cpu, arch string
	}{
		{"", vm.KVM, vm.KVM, "host-passthrough", "x86_64"},
		{"", vm.TCG, vm.TCG, "maximum", "x86_64"},
		{`acceleration = "auto"`, vm.KVM, vm.KVM, "host-passthrough", "x86_64"},
		{`acceleration = "kvm"`, vm.KVM, vm.KVM, "host-passthrough", "x86_64"},
		{`acceleration = "tcg"`, vm.KVM, vm.TCG, "maximum", "x86_64"},
		{`acceleration = "tcg"`, vm.TCG, vm.TCG, "maximum", "x86_64"},
		{`cpu_model = "Nehalem"`, vm.KVM, vm.KVM, "Nehalem", "x86_64"},
		{`cpu_model = "Nehalem"`, vm.TCG, vm.TCG, "Nehalem", "x86_64"},
	} {
		d, _ := newDriver(t)
		if err := setConfig(d, test.config); err != nil {
			t.Fatal(err)
		}
		r := newRequest(t, oneDisk)
		r.config, r.facts.Accel = d.config, test.offered
		spec := mustPlan(t, r)
		if spec.Accel != test.accel || spec.CPUModel != test.cpu || spec.Arch != test.arch {
			t.Errorf("with %q on a host that offers %s: %s, CPU %s, %s, want %s, CPU %s, %s", test.config, test.offered,
				spec.Accel, spec.CPUModel, spec.Arch, test.accel, test.cpu, test.arch)
		}
	}
}

func TestPlanOfAGuestOfAnotherArchitecture(t *testing.T) {
	for _, test := range []struct {
		name   string
		config string // of the plugin
		change func(*hypervisor.Facts)
		want   string // arch, machine, acceleration, CPU
	}{
		{"the host's own", "", func(f *hypervisor.Facts) { f.Machine = "q35" }, "x86_64 q35 qemu maximum"},
		{"ARM on a PC", "", onARM, "aarch64 virt qemu cortex-a72"},
		{"the configured model is none of ARM's", `cpu_model = "Nehalem"`, onARM, "aarch64 virt qemu cortex-a72"},
		{"ARM on ARM", "", func(f *hypervisor.Facts) { onARM(f); f.Native, f.Accel = true, vm.KVM }, "aarch64 virt kvm host-passthrough"},
		{"ARM on ARM without KVM", "", func(f *hypervisor.Facts) { onARM(f); f.Native = true }, "aarch64 virt qemu cortex-a72"},
		{"32 bits by KVM", "", func(f *hypervisor.Facts) { f.Arch, f.Native, f.Accel = "i686", false, vm.KVM }, "i686  kvm host-passthrough"},
		{"32 bits without", `cpu_model = "Nehalem"`, func(f *hypervisor.Facts) { f.Arch, f.Native = "i686", false }, "i686  qemu maximum"},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, _ := newDriver(t)
			if err := setConfig(d, test.config); err != nil {
				t.Fatal(err)
			}
			r := newRequest(t, oneDisk)
			r.config = d.config
			test.change(&r.facts)
			s := mustPlan(t, r)
			if got := fmt.Sprintf("%s %s %s %s", s.Arch, s.Machine, s.Accel, s.CPUModel); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestMountsAreWhatTheHostHas(t *testing.T) {
	for _, test := range []struct {
		config   string
		virtioFS bool
		want     vm.ShareType
	}{
		{"", true, vm.VirtioFS},
		{"", false, vm.NineP},
		{`mounts = "9p"`, true, vm.NineP},
		{`mounts = "9p"`, false, vm.NineP},
		{`mounts = "virtiofs"`, true, vm.VirtioFS},
	} {
		r := newRequest(t, oneDisk+test.config)
		r.facts.VirtioFS = test.virtioFS
		for _, s := range mustPlan(t, r).Shares {
			if s.Type != test.want {
				t.Errorf("with %q and virtiofs %t: %s is shown by %s, want %s",
					test.config, test.virtioFS, s.Target, s.Type, test.want)
			}
		}
	}
}

func TestEnvironmentHoldsDevicesAndTheTasksOwnWins(t *testing.T) {
	r := newRequest(t, oneDisk)
	r.nomad.DeviceEnv = map[string]string{"DEVICE": "d", "BOTH": "device"}
	r.nomad.Env = map[string]string{"TASK": "t", "BOTH": "task"}
	want := map[string]string{"DEVICE": "d", "TASK": "t", "BOTH": "task"}
	if diff := cmp.Diff(want, mustPlan(t, r).Seed.Env); diff != "" {
		t.Errorf("the environment (-want +got):\n%s", diff)
	}
}
