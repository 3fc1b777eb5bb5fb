package doctor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/vm"
)

// Gather looks at the host. What does not answer is given up after some seconds.
func Gather(ctx context.Context, s Settings) Facts {
	f := Facts{
		Root:   os.Geteuid() == 0,
		Now:    time.Now(),
		System: gatherSystem("/"),
		CPU:    gatherCPU(),
		Memory: totalMemory(),
		Kernel: gatherKernel(),
		Ceph:   make(map[string]error),
	}
	f.Guests = gatherGuests(ctx, "/", f.System)
	f.Libvirt = gatherLibvirt(ctx, s)
	f.Security = gatherSecurity(s)
	f.Firewall = gatherFirewall(ctx)
	f.NineP = hasNineP(ctx, f.Libvirt.Runs.Emulator)
	f.QemuImg, f.QemuImgRBD, f.Prlimit = gatherPrograms(ctx)
	f.Directories = gatherDirectories(s, f.Libvirt)
	for _, p := range s.Pools {
		if p.Ceph != nil {
			f.Ceph[p.Name] = answers(ctx, p)
		}
	}
	if s.Agent != nil {
		f.Plugin = gatherPlugin(s.Agent.PluginDir)
		f.Plugin.Default, f.Plugin.Left = pluginsLeft(*s.Agent)
	}
	return f
}

func gatherCPU() CPU {
	c := CPU{X86: runtime.GOARCH == "amd64" || runtime.GOARCH == "386"}
	content, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(content)) {
		name, flags, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		for _, flag := range strings.Fields(flags) {
			if flag == "vmx" || flag == "svm" {
				c.Flag = flag
			}
		}
		break // all CPUs have the same
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if c.Device = err; err == nil {
		device.Close()
	}
	return c
}

func totalMemory() vm.Bytes {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return vm.Bytes(kib) * vm.KiB
		}
	}
	return 0
}

// settings of the kernel's network.
const (
	ofInterfaces  = "/proc/sys/net/ipv4/conf/"
	routeLocalnet = "/route_localnet"
	ipForward     = "/proc/sys/net/ipv4/ip_forward"
)

func gatherKernel() Kernel {
	k := Kernel{
		RouteLocalnet: isOne(ofInterfaces + "all" + routeLocalnet),
		Forwarding:    isOne(ipForward),
	}
	if err := unix.Access(ofInterfaces+"default"+routeLocalnet, unix.W_OK); err != nil {
		k.Sysctl = &fs.PathError{Op: "write", Path: ofInterfaces + "*" + routeLocalnet, Err: err}
	}
	k.Cgroups, k.Shares = gatherCgroups("/sys/fs/cgroup")
	return k
}

func isOne(path string) bool {
	content, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(content)) == "1"
}

// gatherCgroups tells the version of control groups at a path, and whether they have
// what shares out CPUs.
func gatherCgroups(path string) (version int, shares bool) {
	var at unix.Statfs_t
	if unix.Statfs(path, &at) == nil && at.Type == unix.CGROUP2_SUPER_MAGIC {
		controllers, _ := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
		return 2, slices.Contains(strings.Fields(string(controllers)), "cpu")
	}
	if _, err := os.Stat(filepath.Join(path, "cpu", "cpu.shares")); err == nil {
		return 1, true
	}
	entries, _ := os.ReadDir(path)
	return min(len(entries), 1), false
}

// gatherDirectories looks at those that the settings name.
func gatherDirectories(s Settings, l Libvirt) map[string]Directory {
	all := make(map[string]Directory)
	for _, path := range s.Directories {
		all[path] = lookAt(path)
	}
	groups := groupsOf(l.Runs.User, l.Runs.Group)
	for _, p := range s.Pools {
		if p.Path == "" {
			continue
		}
		d := lookAtNearest(p.Path)
		if d.Err == nil {
			d.Closed = closedTo(d.At, l.Runs.User, groups)
		}
		all[p.Path] = d
	}
	return all
}

// lookAtNearest looks at a directory, or at the one that it would be made in.
func lookAtNearest(path string) Directory {
	at := filepath.Clean(path)
	d := lookAt(at)
	missing := d.Missing
	for d.Missing && d.Err == nil && at != filepath.Dir(at) {
		at = filepath.Dir(at)
		d = lookAt(at)
	}
	d.Missing, d.At = missing, at
	return d
}

func lookAt(path string) Directory {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(path); err == nil {
			return Directory{Missing: true, Err: fmt.Errorf("%s is a symbolic link to what is not there", path)}
		}
		return Directory{Missing: true}
	case err != nil:
		return Directory{Err: err}
	case !info.IsDir():
		return Directory{Err: fmt.Errorf("%s is no directory", path)}
	}
	space, err := hostfile.SpaceAt(path)
	return Directory{ReadOnly: space.ReadOnly, Free: space.Free, Size: space.Size, Err: err}
}

// groupsOf lists the groups of a user; -1 is nobody.
func groupsOf(id, group int) []int {
	groups := []int{group}
	u, err := user.LookupId(strconv.Itoa(id))
	if err != nil {
		return groups
	}
	ids, _ := u.GroupIds()
	for _, g := range ids {
		if number, err := strconv.Atoi(g); err == nil {
			groups = append(groups, number)
		}
	}
	return groups
}

// closedTo finds the directory that keeps a user from what is in another; "": none
// does.
func closedTo(path string, id int, groups []int) string {
	if id <= 0 { // root, or not known
		return ""
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	closed := ""
	for dir := real; ; dir = filepath.Dir(dir) {
		var stat syscall.Stat_t
		if syscall.Stat(dir, &stat) == nil && !aclOf(dir, stat.Mode).lets(stat.Uid, stat.Gid, id, groups) {
			closed = dir
		}
		if dir == "/" {
			return closed
		}
	}
}

// lines reads a file by its lines, from near its end if it is long.
func lines(path string, most int64) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > most {
		if _, err := file.Seek(-most, 2); err != nil {
			return nil, err
		}
	}
	var all []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		all = append(all, scanner.Text())
	}
	return all, scanner.Err()
}
