package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

// healthy is a host on which nothing is amiss.
func healthy() (*Settings, *Facts) {
	s := &Settings{
		Agent: &Agent{
			Files: []string{"/etc/nomad.d/nomad.hcl"}, Client: true, HasPlugin: true, DataDir: "/opt/nomad/data",
			PluginDir: "/opt/nomad/plugins", MaxKillTimeout: "3m", Reserved: 4 * vm.GiB,
		},
		URI:          "qemu:///system",
		Acceleration: "auto",
		Directories:  []string{"/images"},
		Pools:        []Pool{{Name: "local", Path: "/pool"}},
	}
	network := Network{HasBridge: true}
	network.Name, network.Bridge, network.Active, network.Autostart = "default", "virbr0", true, true
	network.Gateway, network.Ranges = netip.MustParsePrefix("192.0.2.1/24"), make([]domxml.AddressRange, 1)
	f := &Facts{
		Root: true,
		CPU:  CPU{Flag: "vmx", X86: true},
		Libvirt: Libvirt{
			Version: 9_000_000, QEMU: 7_002_000,
			Facts:    hypervisor.Facts{Accel: vm.KVM, VirtioFS: true},
			Runs:     domxml.QEMU{Emulator: "/usr/bin/qemu", Confined: []string{"apparmor"}},
			UserName: "root",
			Networks: []Network{network},
			Pools:    map[string]PoolState{"local": {PoolState: hypervisor.PoolState{Defined: true, Active: true}}},
		},
		Directories: map[string]Directory{"/images": {}, "/pool": {Free: 50 * vm.GiB, Size: 100 * vm.GiB}},
		Ceph:        map[string]error{},
		Firewall:    Firewall{Chains: true},
		Kernel:      Kernel{Forwarding: true, Cgroups: 2, Shares: true},
		Now:         time.Unix(1_700_010_000, 0),
		Guests: LibvirtGuests{Active: true, File: "/etc/default/libvirt-guests", Set: map[string]string{
			"ON_SHUTDOWN": "shutdown", "ON_BOOT": "ignore", "PARALLEL_SHUTDOWN": "10",
		}},
		Memory: 64 * vm.GiB,
		Plugin: Plugin{Path: "/opt/nomad/plugins/nomad-driver-virt", Own: "/root/build/nomad-driver-virt"},
	}
	return s, f
}

func TestHealthyHostHasNoComplaints(t *testing.T) {
	s, f := healthy()
	all := Examine(*s, *f)
	for _, finding := range all {
		if finding.Status != OK || finding.Mend != "" {
			t.Errorf("want nothing to mend on a healthy host, got %+v", finding)
		}
	}
	if len(all) < 15 || Worst(all) != OK {
		t.Errorf("want 15 findings at least, all ok, got %d, %s", len(all), Worst(all))
	}
}

// brokenHost is a host on which something is amiss, and what is to be said of it.
type brokenHost struct {
	name    string
	breaks  func(s *Settings, f *Facts)
	status  Status
	subject string
	found   string // is in it
	mend    string // is in it
}

// findComplaints fails unless something is said of each host.
func findComplaints(t *testing.T, hosts []brokenHost) {
	t.Helper()
	for _, test := range hosts {
		t.Run(test.name, func(t *testing.T) {
			s, f := healthy()
			test.breaks(s, f)
			var complaints []Finding
			for _, finding := range Examine(*s, *f) {
				if finding.Status != OK {
					complaints = append(complaints, finding)
				}
			}
			is := func(c Finding) bool {
				return c.Status == test.status && c.Subject == test.subject &&
					strings.Contains(c.Found, test.found) && strings.Contains(c.Mend, test.mend) && c.Mend != ""
			}
			for _, c := range complaints {
				if is(c) {
					return
				}
			}
			t.Errorf("want a %s of %s that says %q and %q, the complaints are: %+v", test.status, test.subject, test.found, test.mend, complaints)
		})
	}
}

var errNot = errors.New("it is not there")

// asUser has QEMU run as another user than root, as on Debian as it comes.
func asUser(f *Facts) { f.Libvirt.Runs.User, f.Libvirt.UserName = 64055, "libvirt-qemu" }

func inCeph(s *Settings) {
	s.Pools = append(s.Pools, Pool{Name: "ceph", Ceph: &rbd.Pool{RBD: vm.RBD{Pool: "vms", Monitors: []string{"a:1"}}}})
}

// unread is an agent whose file cannot be read.
func unread(why error) func(*Settings, *Facts) {
	return func(s *Settings, _ *Facts) {
		s.Agent, s.Unread = nil, &fs.PathError{Op: "open", Path: "/etc/nomad.d/nomad.hcl", Err: why}
	}
}

func TestBrokenHosts(t *testing.T) {
	findComplaints(t, []brokenHost{
		{"not root", func(_ *Settings, f *Facts) { f.Root = false }, Warning, "privileges", "does not run as root", "sudo"},
		{"no agent's file", func(s *Settings, _ *Facts) { s.Agent = nil }, Warning, "agent", "its pools, plugin_dir, max_kill_timeout and client.reserved are unchecked", "-config /etc/nomad.d"},
		{"an agent's file for root alone", unread(fs.ErrPermission), Problem, "agent", "judged by the plugin's defaults, its pools are unchecked: open /etc/nomad.d/nomad.hcl: permission denied", "sudo nomad-driver-virt doctor, with"},
		{"an agent's file that is not there", unread(fs.ErrNotExist), Problem, "agent", "cannot be read, and", "name the agent's configuration: nomad-driver-virt doctor -config /etc/nomad.d"},
		{"an agent's file that is not understood", unread(errNot), Problem, "agent", "it is not there", "correct that, or name"},
		{"a configuration that is refused", func(s *Settings, _ *Facts) { s.Wrong = errNot }, Problem, "agent", "does not start with it: it is not there", "/etc/nomad.d/nomad.hcl"},
		{"no block for the plugin", func(s *Settings, _ *Facts) { s.Agent.HasPlugin = false }, Problem, "agent", "no block for the plugin", "plugin \"nomad-driver-virt\""},
		{"a server", func(s *Settings, _ *Facts) { s.Agent.Client = false }, Problem, "agent", "no client", "enabled = true"},
		{"old names", func(s *Settings, _ *Facts) { s.Warnings = []string{"data_dir is an old name"} }, Warning, "agent", "old name", "nomad.hcl"},
		{"no plugin_dir", func(_ *Settings, f *Facts) { f.Plugin.Path = "" }, Problem, "plugin_dir", "has none", "plugin_dir ="},
		{"no plugin in it", func(_ *Settings, f *Facts) { f.Plugin.Err = errNot }, Problem, "plugin_dir", "finds no plugin: it is", "install -D /root/build/nomad-driver-virt /opt/nomad/plugins/nomad-driver-virt"},
		{
			"no plugin in it, and the package elsewhere", func(_ *Settings, f *Facts) {
				f.Plugin = Plugin{Path: "/opt/nomad/data/plugins/nomad-driver-virt", Own: packaged, Err: errNot}
			},
			Problem, "plugin_dir", "finds no plugin: it is", "mkdir -p /opt/nomad/data/plugins && ln -sf /opt/nomad/plugins/nomad-driver-virt /opt/nomad/data/plugins/nomad-driver-virt",
		},
		{"an older plugin in it", func(_ *Settings, f *Facts) { f.Plugin.Other = true }, Warning, "plugin_dir", "another program", "install -D"},
		{
			"plugins that are left behind", func(_ *Settings, f *Facts) {
				f.Plugin.Default, f.Plugin.Left = "/opt/nomad/data/plugins", []string{"nomad-driver-podman", "other"}
			},
			Warning, "plugin_dir", "loads plugins of no other directory, and so none of those in /opt/nomad/data/plugins: nomad-driver-podman, other",
			"take plugin_dir out of the agent's configuration, and ln -sf /opt/nomad/plugins/nomad-driver-virt /opt/nomad/data/plugins/",
		},
		{"Nomad's max_kill_timeout", func(s *Settings, _ *Facts) { s.Agent.MaxKillTimeout = "30s" }, Warning, "max_kill_timeout", "is 30s", `"3m"`},
		{"no max_kill_timeout", func(s *Settings, _ *Facts) { s.Agent.MaxKillTimeout = "long" }, Problem, "max_kill_timeout", `"long" is no duration`, `"3m"`},
		{"a CPU without", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel, f.CPU = vm.TCG, CPU{X86: true, Device: errNot} }, Warning, "KVM", "neither vmx nor svm", "firmware"},
		{"no module on Intel", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel, f.CPU.Device = vm.TCG, errNot }, Warning, "KVM", "/dev/kvm cannot be used", "modprobe kvm_intel"},
		{"no module on AMD", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel, f.CPU = vm.TCG, CPU{"svm", true, errNot} }, Warning, "KVM", "many times slower", "modprobe kvm_amd"},
		{"no module on ARM", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel, f.CPU = vm.TCG, CPU{Device: errNot} }, Warning, "KVM", "/dev/kvm", "modprobe kvm"},
		{"libvirt has not noticed", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel = vm.TCG }, Warning, "KVM", "libvirt offers none", "restart libvirtd"},
		{"KVM is a must", func(s *Settings, f *Facts) { s.Acceleration, f.Libvirt.Facts.Accel = "kvm", vm.TCG }, Problem, "KVM", "asks for it", "restart libvirtd"},
		{"libvirt does not run", func(_ *Settings, f *Facts) { f.Libvirt.Err = errNot }, Problem, "libvirt", "it is not there", "systemctl enable --now libvirtd"},
		{"a wrong password", func(_ *Settings, f *Facts) { f.Libvirt.Err = errors.New("libvirt refuses to open it") }, Problem, "libvirt", "refuses", "password"},
		{
			"libvirt for root alone", func(_ *Settings, f *Facts) {
				f.Root, f.Libvirt.Err = false, fmt.Errorf("asking: %w: %w", hypervisor.ErrNotRoot, fs.ErrPermission)
			},
			Problem, "libvirt", "unchecked: asking: this user may not", "run it as root: sudo nomad-driver-virt doctor, with the same options",
		},
		{"KVM for root alone", func(_ *Settings, f *Facts) { f.Root, f.CPU.Device, f.Libvirt.Err = false, fs.ErrPermission, errNot }, Warning, "KVM", "permission denied", "run it as root"},
		{"neither libvirt nor KVM", func(_ *Settings, f *Facts) { f.Libvirt.Err, f.CPU.Device = errNot, errNot }, Warning, "KVM", "/dev/kvm cannot", "modprobe"},
		{"no libvirt, and a CPU without", func(_ *Settings, f *Facts) { f.Libvirt.Err, f.CPU.Flag = errNot, "" }, Warning, "KVM", "neither vmx nor svm", "firmware"},
		{"9p for another user", func(_ *Settings, f *Facts) { asUser(f); f.Libvirt.Facts.VirtioFS = false }, Problem, "directories in guests", "runs as libvirt-qemu, cannot read what only root may: every task is refused", "apt install virtiofsd (in Debian 12 it comes with qemu-system-common); or write user"},
		{"9p alone", func(_ *Settings, f *Facts) { f.Libvirt.Facts.VirtioFS = false }, Warning, "directories in guests", "9p alone", "virtiofsd"},
		{"neither", func(_ *Settings, f *Facts) { f.Libvirt.Facts.VirtioFS, f.NineP = false, errNot }, Problem, "directories in guests", "no VM starts", "virtiofsd"},
		{
			"AppArmor", func(_ *Settings, f *Facts) {
				f.Security.Denied = []Denial{{Profile: "libvirt-1", Path: "/proc/x"}, {Profile: "libvirt-1", Path: "/pool/a/b.qcow2", Mask: "wrc"}}
			},
			Problem, "confinement", "AppArmor has refused /pool/a/b.qcow2 (profile libvirt-1)",
			`docs/apparmor.md says; if they do, write '"/pool/a/b.qcow2" rw,' into /etc/apparmor.d/local/abstractions/libvirt-qemu`,
		},
		{
			"AppArmor, just now and long ago", func(_ *Settings, f *Facts) {
				f.Security.Denied = []Denial{denial("/pool/new", f.Now.Add(-time.Minute)), denial("/pool/old", f.Now.Add(-2*time.Hour))}
			},
			Problem, "confinement", "refused /pool/new", "\"/pool/new\" r,",
		},
		{
			"AppArmor, long ago", func(_ *Settings, f *Facts) {
				f.Security.Denied = []Denial{denial("/pool/older", f.Now.Add(-3*time.Hour)), denial("/pool/old", f.Now.Add(-2*time.Hour))}
			},
			Warning, "confinement", "refused /pool/old (profile libvirt-1) at 2023-11-14T23:00:00Z, and nothing of the driver's since", "nothing, if that was mended",
		},
		{
			"AppArmor and Nomad's directory", func(_ *Settings, f *Facts) {
				f.Security.Denied = []Denial{{Profile: "virtiofsd", Path: "/opt/nomad/data/alloc/x"}}
			},
			Problem, "confinement", "/opt/nomad/data/alloc/x", "of that profile",
		},
		{"a log that cannot be read", func(_ *Settings, f *Facts) { f.Security.Log = errNot }, Warning, "confinement", "kernel's log: it is not there", "sudo"},
		{
			"SELinux", func(_ *Settings, f *Facts) {
				underSELinux(f, "var_lib_t", "virt_image_t")
			}, Warning, "confinement", `/opt/nomad/data/alloc is labelled "system_u:object_r:var_lib_t:s0", of which VMs may not read`, "virt_content_t '/opt/nomad/data/alloc(/.*)?' && restorecon -R /opt/nomad/data/alloc",
		},
		{
			"SELinux and a pool", func(_ *Settings, f *Facts) {
				underSELinux(f, "virt_content_t", "var_lib_t")
			}, Warning, "confinement", `/pool is labelled "system_u:object_r:var_lib_t:s0:c1,c2", in which libvirt may make no volumes`, "virt_image_t '/pool(/.*)?' && restorecon -R /pool",
		},
		{"no qemu-img", func(_ *Settings, f *Facts) { f.QemuImg = errNot }, Problem, "qemu-img", "it is not there", "qemu-utils"},
		{"no prlimit", func(_ *Settings, f *Facts) { f.Prlimit = errNot }, Problem, "qemu-img", "prlimit", "util-linux"},
		{"no driver for Ceph", func(s *Settings, f *Facts) { inCeph(s); f.QemuImgRBD = errNot }, Problem, "qemu-img", "no driver for Ceph", "qemu-block-extra"},
		{"Ceph is away", func(s *Settings, f *Facts) { inCeph(s); f.Ceph["ceph"] = errNot }, Problem, "pool ceph", "it is not there", "docs/storage.md"},
		{"a pool that libvirt cannot tell of", func(_ *Settings, f *Facts) { f.Libvirt.Pools["local"] = PoolState{Err: errNot} }, Problem, "pool local", "it is not there", "virsh pool-info local"},
		{
			"a pool that is elsewhere", func(_ *Settings, f *Facts) {
				f.Libvirt.Pools["local"] = PoolState{Err: fmt.Errorf("looking: %w", hypervisor.OtherPoolError{Reason: "is at /other", Path: "/other"})}
			},
			Problem, "pool local", "is at /other", `another name in storage_pools of the plugin's configuration, or path = "/other"`,
		},
		{"no such filter", func(s *Settings, f *Facts) { s.NWFilter, f.Libvirt.NWFilter = "none-such", errNot }, Problem, "nwfilter", "it is not there", "nwfilter-define"},
		{"libvirt does not run, modular", func(_ *Settings, f *Facts) { f.Libvirt.Err, f.System.Modular = errNot, true }, Problem, "libvirt", "it is not there", "systemctl enable --now virtqemud.socket"},
		{"virtqemud has not noticed", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel, f.System.Modular = vm.TCG, true }, Warning, "KVM", "libvirt offers none", "systemctl restart virtqemud,"},
		{"no qemu-img on Red Hat's", func(_ *Settings, f *Facts) { f.QemuImg, f.System.RedHat = errNot, true }, Problem, "qemu-img", "it is not there", "dnf install qemu-img"},
		{"no virtiofsd on Red Hat's", func(_ *Settings, f *Facts) { f.Libvirt.Facts.VirtioFS, f.NineP, f.System.RedHat = false, errNot, true }, Problem, "directories in guests", "no VM starts", "dnf install virtiofsd"},
		{"a pool whose file system is not mounted", func(_ *Settings, f *Facts) { f.Directories["/pool"] = Directory{Missing: true} }, Problem, "pool local", "directory /pool is not there", "mkdir -p /pool"},
		{"a pool that is a file", func(_ *Settings, f *Facts) { f.Directories["/pool"] = Directory{Err: errNot} }, Problem, "pool local", "it is not there", "storage_pools"},
		{"a pool that is read-only", func(_ *Settings, f *Facts) { f.Directories["/pool"] = Directory{ReadOnly: true} }, Problem, "pool local", "read-only", "remount,rw $(findmnt -n -o TARGET -T /pool)"},
		{
			"a pool that QEMU does not get to", func(_ *Settings, f *Facts) { asUser(f); f.Directories["/pool"] = Directory{Closed: "/secret"} },
			Problem, "pool local", "/secret does not let QEMU (libvirt-qemu) through", "setfacl -m u:64055:x /secret; or, for all users: chmod o+x /secret",
		},
		{"a pool that is nearly full", func(_ *Settings, f *Facts) { f.Directories["/pool"] = Directory{Free: 9 * vm.GiB, Size: 100 * vm.GiB} }, Warning, "pool local", "9GiB of 100GiB are free", "grow"},
		{"a pool that is full", func(_ *Settings, f *Facts) { f.Directories["/pool"] = Directory{Free: vm.GiB, Size: 100 * vm.GiB} }, Problem, "pool local", "are paused", "grow"},
		{"no directory of images", func(_ *Settings, f *Facts) { f.Directories["/images"] = Directory{Missing: true} }, Warning, "files for tasks", "/images is named", "mkdir -p /images"},
		{"a file for images", func(_ *Settings, f *Facts) { f.Directories["/images"] = Directory{Err: errNot} }, Warning, "files for tasks", "it is not there", "image_paths"},
		{"a network that is stopped", func(_ *Settings, f *Facts) { f.Libvirt.Networks[0].Active = false }, Warning, "network default", "does not run", "virsh net-start default"},
		{"a network without autostart", func(_ *Settings, f *Facts) { f.Libvirt.Networks[0].Autostart = false }, Warning, "network default", "does not start with", "net-autostart default"},
		{"a bridge that somebody removed", func(_ *Settings, f *Facts) { f.Libvirt.Networks[0].HasBridge = false }, Problem, "network default", "no bridge virbr0", "net-destroy"},
		{"no nft", func(_ *Settings, f *Facts) { f.Firewall.NFT = exec.ErrNotFound }, Problem, "firewall", "no port can be published", "apt install nftables"},
		{"no iptables", func(_ *Settings, f *Facts) { f.Firewall = Firewall{IPTables: exec.ErrNotFound} }, Warning, "firewall", "no NAT network", "apt install iptables"},
		{"a kernel without nftables", func(_ *Settings, f *Facts) { f.Firewall.NFT = errNot }, Problem, "firewall", "it is not there", "modprobe nf_tables"},
		{"route_localnet for all", func(_ *Settings, f *Facts) { f.Kernel.RouteLocalnet = true }, Warning, "route_localnet", "127.0.0.1", "route_localnet=0"},
		{"settings that are read-only", func(_ *Settings, f *Facts) { f.Kernel.Sysctl = errNot }, Problem, "route_localnet", "loopback addresses cannot", "/proc/sys"},
		{"no forwarding", func(_ *Settings, f *Facts) { f.Kernel.Forwarding = false }, Warning, "forwarding", "with ports on other addresses", "ip_forward=1"},
		{"no control groups", func(_ *Settings, f *Facts) { f.Kernel.Cgroups = 0 }, Warning, "cgroups", "there are none", "mount"},
		{"no shares of CPUs", func(_ *Settings, f *Facts) { f.Kernel.Shares = false }, Warning, "cgroups", "without the controller cpu", "cgroup_disable"},
		{"no systemd", func(_ *Settings, f *Facts) { f.Guests.Err = errNot }, Warning, "host's shutdown", "is not known: it is", "libvirt-guests"},
		{"no libvirt-guests", func(_ *Settings, f *Facts) { f.Guests.Active = false }, Warning, "host's shutdown", "are killed", "enable --now libvirt-guests"},
		{"guests are saved", func(_ *Settings, f *Facts) { f.Guests.Set["ON_SHUTDOWN"] = "suspend" }, Warning, "host's shutdown", "saves guests", "ON_SHUTDOWN=shutdown into /etc/default"},
		{"guests are started twice", func(_ *Settings, f *Facts) { f.Guests.Set["ON_BOOT"] = "start" }, Warning, "host's shutdown", "starts VMs at boot", "ON_BOOT=ignore"},
		{"guests are shut down one by one", func(_ *Settings, f *Facts) { f.Guests.Set["PARALLEL_SHUTDOWN"] = "0" }, Warning, "host's shutdown", "one after another", "PARALLEL_SHUTDOWN=10"},
		{"no memory for QEMU", func(s *Settings, _ *Facts) { s.Agent.Reserved = vm.GiB }, Warning, "memory", "of 64GiB, 1GiB are not for tasks", "memory = 3121"},
		{"no memory for emulators", func(_ *Settings, f *Facts) { f.Libvirt.Facts.Accel = vm.TCG }, Warning, "memory", "about 30%", "memory = 15124"},
	})
}

// underSELinux has it confine QEMU, and Nomad's allocations and the pool be of two types.
func underSELinux(f *Facts, allocations, pool string) {
	f.Libvirt.Runs.Confined = []string{"selinux"}
	f.Security = Security{Enforcing: true, Labels: map[string]string{
		"/opt/nomad/data/alloc": "system_u:object_r:" + allocations + ":s0", "/pool": "system_u:object_r:" + pool + ":s0:c1,c2",
	}}
}

// Its refusals are in another form than AppArmor's, which alone is read.
func TestRefusalsOfSELinuxAreUnchecked(t *testing.T) {
	s, f := healthy()
	underSELinux(f, "virt_content_t", "virt_image_t")
	f.Security.Log = errNot // is not asked
	got := about("confinement", *s, *f)
	if got.Status != OK || !strings.Contains(got.Found, "unchecked, and told by: ausearch -m avc -ts recent") {
		t.Errorf("of SELinux is said %+v, want that its refusals are unchecked, and what tells of them", got)
	}
}

func denial(path string, at time.Time) Denial {
	return Denial{Profile: "libvirt-1", Path: path, Mask: "r", At: at}
}

// What is not known of libvirt is not told otherwise in another line.
func TestKVMIsJudgedOnceWithoutLibvirt(t *testing.T) {
	s, f := healthy()
	f.Libvirt = Libvirt{Err: errNot}
	for _, finding := range Examine(*s, *f) {
		if strings.Contains(finding.Found, "emulated") {
			t.Errorf("libvirt is away and /dev/kvm is there: %+v, want no word of emulation", finding)
		}
	}
}

func TestWhatOnlyRootSeesIsNoProblemForOthers(t *testing.T) {
	s, f := healthy()
	f.Root, f.Firewall.NFT, f.Firewall.IPTables, f.Kernel.Sysctl = false, errNot, errNot, errNot
	for _, finding := range Examine(*s, *f) {
		if finding.Status != OK && finding.Subject != "privileges" {
			t.Errorf("want no complaint but of the privileges, got %+v", finding)
		}
	}
}

func TestWhatIsNoComplaint(t *testing.T) {
	for name, changes := range map[string]func(s *Settings, f *Facts){
		"emulation that was asked for": func(s *Settings, f *Facts) {
			s.Acceleration, f.Libvirt.Facts.Accel, s.Agent.Reserved = "tcg", vm.TCG, 16*vm.GiB
		},
		"virtiofsd for another user": func(_ *Settings, f *Facts) { f.Libvirt.Runs.User = 64055 },
		"a pool that is not made yet": func(_ *Settings, f *Facts) {
			f.Directories["/pool"] = Directory{Missing: true}
			f.Libvirt.Pools = nil
		},
		"no driver for Ceph, and no pool there": func(_ *Settings, f *Facts) { f.QemuImgRBD = errNot },
		"less memory for tasks than there is":   func(s *Settings, _ *Facts) { s.Agent.Reserved, s.Agent.Memory = 0, 60*vm.GiB },
		"a network that nobody wants to run": func(_ *Settings, f *Facts) {
			other := f.Libvirt.Networks[0]
			other.Active, other.Autostart = false, false
			f.Libvirt.Networks = append(f.Libvirt.Networks, other)
		},
		"SELinux that lets QEMU read": func(_ *Settings, f *Facts) { underSELinux(f, "svirt_image_t", "virt_image_t") },
		"SELinux and a pool on NFS":   func(_ *Settings, f *Facts) { underSELinux(f, "virt_content_t", "nfs_t") },
		"SELinux that is permissive": func(_ *Settings, f *Facts) {
			underSELinux(f, "var_lib_t", "var_lib_t")
			f.Security.Enforcing = false
		},
		"SELinux, and an agent that says nothing of its directories": func(s *Settings, f *Facts) {
			f.Libvirt.Runs.Confined, s.Agent.DataDir = []string{"selinux"}, ""
			f.Security = Security{Enforcing: true}
		},
		"a filter that there is":      func(s *Settings, _ *Facts) { s.NWFilter = "clean-traffic" },
		"libvirt's nftables back end": func(_ *Settings, f *Facts) { f.Firewall = Firewall{IPTables: errNot, Table: true} },
		"that back end, and no network yet": func(_ *Settings, f *Facts) {
			f.Firewall = Firewall{IPTables: errNot, Backend: "nftables"}
		},
		"AppArmor that refuses what is none of ours": func(_ *Settings, f *Facts) {
			f.Security.Denied = []Denial{{Profile: "libvirt-1", Path: "/pools/x"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := healthy()
			changes(s, f)
			for _, finding := range Examine(*s, *f) {
				if finding.Status != OK {
					t.Errorf("want no complaint, got %+v", finding)
				}
			}
		})
	}
}

func TestPrint(t *testing.T) {
	all := []Finding{{OK, "one", "is well", ""}, {Warning, "another", "is so\nso", "do\nit"}, {Problem, "a", "is bad", "b & c"}}
	var text, machine strings.Builder
	if err := errors.Join(Print(&text, all), PrintJSON(&machine, all[1:])); err != nil {
		t.Fatal(err)
	}
	const wantText = `ok       one      is well
warning  another  is so; so; to mend: do; it
problem  a        is bad; to mend: b & c
`
	const wantJSON = `{
  "status": "problem",
  "findings": [
    {
      "status": "warning",
      "subject": "another",
      "found": "is so\nso",
      "mend": "do\nit"
    },
    {
      "status": "problem",
      "subject": "a",
      "found": "is bad",
      "mend": "b & c"
    }
  ]
}
`
	if diff := cmp.Diff(wantText, text.String()) + cmp.Diff(wantJSON, machine.String()); diff != "" {
		t.Errorf("what is printed (-want +got):\n%s", diff)
	}
}
