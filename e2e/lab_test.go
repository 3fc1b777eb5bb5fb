//go:build e2e

// Package e2e drives the lab as a user would: it submits jobs to a real Nomad,
// whose VMs run under a real libvirt and QEMU, and looks at what comes of them.
// It runs inside the lab: make e2e.
package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	poolDir  = "/var/lib/virt/storage"
	smallDir = "/var/lib/virt/small/pool" // of the pool "small", on a file system of 256 MiB
	imageDir = "/var/lib/virt/images"
	nvramDir = "/var/lib/libvirt/qemu/nvram" // where libvirt keeps the settings of UEFI
	lab      = "../lab/lab"

	// How long to wait for what comes of a job. Guests run without KVM, and two
	// of them share two cores.
	startTimeout  = 2 * time.Minute
	tinyTimeout   = 4 * time.Minute
	debianTimeout = 8 * time.Minute
	endTimeout    = 2 * time.Minute
)

func TestMain(m *testing.M) {
	if os.Getenv("LAB_INSIDE") == "" {
		fmt.Fprintln(os.Stderr, "e2e: these tests run inside the lab, run them by: make e2e")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// command runs a program, and returns what it printed. A failure ends the test.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

func virsh(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, "virsh", append([]string{"-q", "-c", "qemu:///system"}, args...)...)
}

// eventually waits until a condition holds, and fails with what it last said.
func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// vmOf is the name of the only VM of a task that is defined.
func vmOf(t *testing.T, task string) string {
	t.Helper()
	var found []string
	for name := range strings.Lines(virsh(t, "list", "--all", "--name")) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, task+"-") {
			found = append(found, name)
		}
	}
	if len(found) != 1 {
		t.Fatalf("want one VM of task %s, found %v", task, found)
	}
	return found[0]
}

// killPlugin ends the plugin as a crash does. Nomad starts the next one.
func killPlugin(t *testing.T) {
	t.Helper()
	command(t, "pkill", "-KILL", "-f", "plugins/nomad-driver-virt")
}

// killPluginAndWait does so, and waits until the next one runs.
func killPluginAndWait(t *testing.T) {
	t.Helper()
	was := command(t, "pgrep", "-f", "plugins/nomad-driver-virt")
	killPlugin(t)
	eventually(t, startTimeout, "the next plugin", func() error {
		if now, err := try("pgrep", "-f", "plugins/nomad-driver-virt"); err != nil || now == was {
			return fmt.Errorf("it is %q, %w", now, err)
		}
		return nil
	})
}

// get fetches a page from this host.
func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), nil
}

// getFromFar fetches a page from another host.
func getFromFar(url string) (string, error) {
	return try(lab, "far", "curl", "-sf", "--max-time", "5", url)
}

// page waits for a page that the guest serves.
func page(t *testing.T, within time.Duration, url string) string {
	t.Helper()
	var body string
	eventually(t, within, "page "+url, func() (err error) {
		body, err = get(url)
		return err
	})
	return body
}

// nothingLeft fails when anything of a VM is left on the host. Base images
// stay: they are a cache that tasks share. So do the volumes that the test made
// by itself, which it names.
func nothingLeft(t *testing.T, own ...string) {
	t.Helper()
	stays := append([]string{"base-"}, own...)
	eventually(t, endTimeout, "nothing left", func() error {
		var left []string
		keep := func(what, found string) {
			if found = strings.TrimSpace(found); found != "" {
				left = append(left, what+": "+found)
			}
		}
		keep("domains", virsh(t, "list", "--all", "--name"))
		for _, pool := range []string{"local", "small"} {
			keep("volumes in "+pool, without(virsh(t, "vol-list", pool), stays...))
		}
		for _, dir := range []string{poolDir, smallDir} {
			keep("files in "+dir, without(listed(t, dir), stays...))
		}
		keep("images in Ceph", leftInCeph(t, stays...))
		keep("reservations", reservations(t))
		keep("leases", matching(virsh(t, "net-dhcp-leases", "default"), " 52:54:")) // as all hardware addresses of QEMU's begin
		keep("network devices", vmDevices(t))
		keep("bridges with route_localnet", routedLocalnet(t))
		keep("rules", matching(command(t, "nft", "list", "ruleset"), "nomad"))
		keep("rules", matching(command(t, "iptables-save"), "nomad"))
		keep("rules", matching(command(t, "ip6tables-save"), "nomad"))
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			return err
		}
		keep("mounts", matching(string(mounts), " /run/nomad-driver-virt/"))
		keep("directories", listed(t, "/run/nomad-driver-virt"))
		keep("consoles", listed(t, "/var/log/libvirt/nomad-driver-virt"))
		qemu, _ := try("pgrep", "-a", "qemu|virtiofsd")
		keep("processes", qemu)
		keep("settings of firmware", listed(t, nvramDir))
		keep("Nomad volumes", without(nomadVolumes(t), own...))
		keep("loop devices", without(loopDevices(t), own...))
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n"))
		}
		return nil
	})
}

// reservations lists those of all networks of libvirt's, now and from their next start on.
func reservations(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, name := range strings.Fields(virsh(t, "net-list", "--all", "--name")) {
		all.WriteString(matching(virsh(t, "net-dumpxml", name), "<host "))
		all.WriteString(matching(virsh(t, "net-dumpxml", "--inactive", name), "<host "))
	}
	return all.String()
}

// vmDevices lists the network devices that libvirt makes for VMs.
func vmDevices(t *testing.T) string {
	t.Helper()
	all := listed(t, "/sys/class/net") + "\n"
	return matching(all, "/vnet") + matching(all, "/macvtap")
}

// routedLocalnet lists the bridges that let packets from 127.0.0.1 out.
func routedLocalnet(t *testing.T) string {
	t.Helper()
	bridges, err := filepath.Glob("/sys/class/net/*/bridge")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, b := range bridges {
		name := filepath.Base(filepath.Dir(b))
		setting, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/route_localnet")
		if err == nil && strings.TrimSpace(string(setting)) != "0" { // otherwise it has just gone
			all = append(all, name)
		}
	}
	return strings.Join(all, " ")
}

// listed lists what is in a directory, a line each.
func listed(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, "\n")
}

// matching returns the lines that have a part, and without those that have none.
func matching(text, part string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func without(text string, parts ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(line, part) }) {
			b.WriteString(line)
		}
	}
	return b.String()
}
