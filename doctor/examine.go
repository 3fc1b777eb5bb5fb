package doctor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"nomad-driver-virt/hypervisor"
)

// Examine judges a host. The order of the findings is that in which to mend.
func Examine(s Settings, f Facts) []Finding {
	var all findings
	all.privileges(f)
	all.agent(s, f)
	all.acceleration(s, f)
	all.libvirt(s, f)
	if f.Libvirt.Err == nil {
		all.qemuUser(f)
		all.confinement(s, f)
	}
	if f.Libvirt.Err == nil && f.Libvirt.NoQEMU == nil {
		all.shares(f)
	}
	all.qemuImg(s, f)
	all.pools(s, f)
	all.directories(s, f)
	if f.Libvirt.Err == nil {
		all.networks(f)
		all.filter(s, f)
	}
	if f.Root {
		all.firewall(f)
	}
	all.kernel(f)
	all.libvirtGuests(f)
	all.memory(s, f)
	return all
}

type findings []Finding

func (a *findings) ok(subject, format string, args ...any) {
	*a = append(*a, Finding{OK, subject, fmt.Sprintf(format, args...), ""})
}

func (a *findings) warn(subject, mend, format string, args ...any) {
	*a = append(*a, Finding{Warning, subject, fmt.Sprintf(format, args...), mend})
}

func (a *findings) problem(subject, mend, format string, args ...any) {
	*a = append(*a, Finding{Problem, subject, fmt.Sprintf(format, args...), mend})
}

func (a *findings) privileges(f Facts) {
	if !f.Root {
		a.warn("privileges", asRoot, "this does not run as root: the firewall, and whether ports on loopback addresses can be published, are unchecked")
	}
}

// shortKill is what is short for an operating system to shut down in.
const shortKill = 30 * time.Second

func (a *findings) agent(s Settings, f Facts) {
	if s.Unread != nil {
		a.problem("agent", mendUnread(s.Unread), "its configuration cannot be read, and the rest is judged by the plugin's defaults, its pools are unchecked: %s", s.Unread)
		return
	}
	if s.Agent == nil {
		a.warn("agent", "nomad-driver-virt doctor -config /etc/nomad.d",
			"its configuration was not read: defaults are taken for the plugin's, and its pools, plugin_dir, max_kill_timeout and client.reserved are unchecked")
		return
	}
	files := strings.Join(s.Agent.Files, ", ")
	switch {
	case s.Wrong != nil:
		a.problem("agent", "correct "+files, "the Nomad agent does not start with it: %s", s.Wrong)
	case !s.Agent.HasPlugin:
		a.problem("agent", `write plugin "nomad-driver-virt" { config {} } into the agent's configuration`, "%s has no block for the plugin", files)
	case !s.Agent.Client:
		a.problem("agent", "write client { enabled = true } into the agent's configuration", "it is no client, and runs no tasks (%s)", files)
	default:
		a.ok("agent", "its configuration is taken (%s)", files)
	}
	for _, w := range s.Warnings {
		a.warn("agent", "correct "+files, "%s", w)
	}
	a.plugin(f)
	a.killTimeout(*s.Agent)
}

const asRoot = "run it as root: sudo nomad-driver-virt doctor, with the same options"

func mendUnread(err error) string {
	const name = "name the agent's configuration: nomad-driver-virt doctor -config /etc/nomad.d"
	switch {
	case errors.Is(err, fs.ErrPermission):
		return asRoot
	case errors.Is(err, fs.ErrNotExist):
		return name
	}
	return "correct that, or " + name
}

func (a *findings) plugin(f Facts) {
	const subject = "plugin_dir"
	mend := f.Plugin.put()
	switch {
	case f.Plugin.Path == "":
		a.problem(subject, `write plugin_dir = "/opt/nomad/plugins" into the agent's configuration`, "the agent has none, and no data_dir either")
	case f.Plugin.Err != nil:
		a.problem(subject, mend, "Nomad finds no plugin: %s", f.Plugin.Err)
	case f.Plugin.Other:
		a.warn(subject, mend, "%s is another program than this one", f.Plugin.Path)
	default:
		a.ok(subject, "%s is this program", f.Plugin.Path)
	}
	if left := f.Plugin.Left; len(left) > 0 {
		a.warn(subject, fmt.Sprintf("take plugin_dir out of the agent's configuration, and ln -sf %s %s/", f.Plugin.Path, f.Plugin.Default),
			"the client loads plugins of no other directory, and so none of those in %s: %s", f.Plugin.Default, strings.Join(left, ", "))
	}
}

// packaged is where packages have the plugin, and bring the next one.
const packaged = "/opt/nomad/plugins/nomad-driver-virt"

// put is what puts this program into plugin_dir.
func (p Plugin) put() string {
	if p.Own == packaged {
		return fmt.Sprintf("mkdir -p %s && ln -sf %s %s", filepath.Dir(p.Path), p.Own, p.Path)
	}
	return "install -D " + cmp.Or(p.Own, pluginFile) + " " + p.Path
}

func (a *findings) killTimeout(agent Agent) {
	const subject, mend = "max_kill_timeout", `write client { max_kill_timeout = "3m" } into the agent's configuration`
	switch most, err := time.ParseDuration(agent.MaxKillTimeout); {
	case err != nil:
		a.problem(subject, mend, "%q is no duration", agent.MaxKillTimeout)
	case most <= shortKill:
		a.warn(subject, mend, "is %s: a guest that takes longer to shut down is destroyed, whatever kill_timeout its task has", most)
	default:
		a.ok(subject, "guests have up to %s to shut down, if their tasks' kill_timeout says so", most)
	}
}

func (a *findings) libvirt(s Settings, f Facts) {
	l := f.Libvirt
	switch {
	case l.Err == nil && l.NoQEMU != nil:
		a.ok("libvirt", "version %s answers at %s", l.Version, s.URI)
		a.problem("QEMU", f.mendQEMU(), "libvirt makes no VMs: %s", l.NoQEMU)
	case l.Err == nil && l.QEMU == 0:
		a.ok("libvirt", "version %s answers at %s", l.Version, s.URI)
	case l.Err == nil:
		a.ok("libvirt", "version %s answers at %s, QEMU is %s", l.Version, s.URI, l.QEMU)
	case errors.Is(l.Err, hypervisor.ErrNotRoot):
		a.problem("libvirt", asRoot, "what it has is unchecked: %s", l.Err)
	case strings.Contains(l.Err.Error(), noDriver):
		a.problem("libvirt", f.System.installLibvirt(f.CPU.X86)+" && "+f.System.restart(), "its part for QEMU is not installed: %s", l.Err)
	case strings.Contains(l.Err.Error(), "refuses"):
		a.problem("libvirt", `correct uri, user and password of provider "libvirt" in the plugin's configuration`, "%s", l.Err)
	case f.System.NoLibvirt:
		a.problem("libvirt", f.System.installLibvirt(f.CPU.X86), "it is not installed: %s", l.Err)
	default:
		a.problem("libvirt", f.System.start(), "%s", l.Err)
	}
}

// noDriver is in what a libvirt says that lacks its part for QEMU, which is a package
// of its own.
const noDriver = "no connection driver available"

func (f Facts) mendQEMU() string {
	emulator := f.Libvirt.Runs.Emulator
	switch {
	case emulator == "":
		return f.System.installQEMU(f.CPU.X86)
	case !f.CPU.X86 && errors.Is(f.Libvirt.NoQEMU, hypervisor.ErrRefused): // it needs UEFI there
		return f.System.install("qemu-efi-aarch64", "edk2-aarch64")
	}
	return emulator + " -version, which says why it does not run"
}

func (a *findings) qemuUser(f Facts) {
	const subject = "QEMU's user"
	runs := f.Libvirt.Runs
	switch {
	case runs.User < 0:
		a.ok(subject, "libvirt does not say who QEMU runs as")
	case runs.User == 0:
		a.ok(subject, "QEMU runs as root")
	default: // what that means for directories is told of them
		a.ok(subject, "QEMU runs as %s", f.Libvirt.UserName)
	}
}

func (a *findings) shares(f Facts) {
	const subject = "directories in guests"
	install := f.System.virtiofsd()
	switch {
	case f.Libvirt.Facts.VirtioFS && f.NineP == nil && f.Libvirt.Runs.User > 0:
		a.ok(subject, "virtiofs; tasks that ask for 9p are refused, for QEMU is not root")
	case f.Libvirt.Facts.VirtioFS && f.NineP == nil:
		a.ok(subject, "virtiofs, and 9p for tasks that ask for it")
	case f.Libvirt.Facts.VirtioFS:
		a.ok(subject, "virtiofs; no 9p: %s", f.NineP)
	case f.NineP == nil && f.Libvirt.Runs.User > 0:
		a.problem(subject, install+`; or write user = "root" and group = "root" into /etc/libvirt/qemu.conf, then `+f.System.restart(),
			"there is no virtiofsd, and by 9p QEMU, which runs as %s, cannot read what only root may: every task is refused", f.Libvirt.UserName)
	case f.NineP == nil:
		a.warn(subject, install, "9p alone, which the kernels of Debian's and Red Hat's cloud images do not have")
	default:
		a.problem(subject, install, "there is no virtiofsd, and no 9p: %s; no VM starts", f.NineP)
	}
}

func (a *findings) qemuImg(s Settings, f Facts) {
	const subject = "qemu-img"
	ceph := false
	for _, p := range s.Pools {
		ceph = ceph || p.Ceph != nil
	}
	switch {
	case f.QemuImg != nil:
		a.problem(subject, f.System.install("qemu-utils", "qemu-img"), "no disk can be filled: %s", f.QemuImg)
	case f.Prlimit != nil:
		a.problem(subject, f.System.install("util-linux", "util-linux"), "it runs below prlimit alone: %s", f.Prlimit)
	case f.QemuImgRBD == nil:
		a.ok(subject, "it is there, with its driver for Ceph")
	case ceph:
		a.problem(subject, f.System.install("qemu-block-extra", "qemu-kvm-block-rbd"), "it has no driver for Ceph, and there are pools in Ceph: %s", f.QemuImgRBD)
	default:
		a.ok(subject, "it is there, without its driver for Ceph, which no pool needs")
	}
}

func (a *findings) directories(s Settings, f Facts) {
	const subject = "files for tasks"
	for _, path := range s.Directories {
		d := f.Directories[path]
		switch {
		case d.Err != nil:
			a.warn(subject, "correct image_paths or user_data_paths in the plugin's configuration", "%s", d.Err)
		case d.Missing:
			a.warn(subject, "mkdir -p "+path, "%s is named in the plugin's configuration, and is not there", path)
		default:
			a.ok(subject, "%s is there", path)
		}
	}
}

// nomadDirectories are those that guests see parts of.
func nomadDirectories(s Settings) []string {
	dirs := []string{sharesDir}
	if s.Agent != nil && s.Agent.DataDir != "" {
		dirs = append(dirs, filepath.Clean(s.Agent.DataDir))
	}
	for _, p := range s.Pools {
		if p.Path != "" {
			dirs = append(dirs, filepath.Clean(p.Path))
		}
	}
	return dirs
}

// sharesDir is where the driver mounts what guests see.
const sharesDir = "/run/nomad-driver-virt"
