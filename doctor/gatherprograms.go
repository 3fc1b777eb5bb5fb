package doctor

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programPatience is how long a program has to say something about itself.
const programPatience = 10 * time.Second

// say runs a program of the host, and returns what it says. It is only asked.
func say(ctx context.Context, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what it says is read
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if first, _, _ := strings.Cut(strings.TrimSpace(complaint.String()), "\n"); err != nil && first != "" {
		err = fmt.Errorf("%s: %s", filepath.Base(program), first)
	}
	return out.String(), err
}

// hasNineP tells why QEMU has no 9p: distributions build it without.
func hasNineP(ctx context.Context, emulator string) error {
	if emulator == "" {
		return errors.New("libvirt names no QEMU for the host's architecture")
	}
	devices, err := say(ctx, emulator, "-device", "help")
	if err == nil && !strings.Contains(devices, `"virtio-9p-pci"`) {
		err = fmt.Errorf("%s has no device virtio-9p-pci", emulator)
	}
	return err
}

func gatherPrograms(ctx context.Context) (qemuImg, qemuImgRBD, prlimit error) {
	_, qemuImg = say(ctx, "qemu-img", "--version")
	_, prlimit = say(ctx, "prlimit", "--version")
	qemuImgRBD = qemuImg
	if qemuImg == nil {
		// It lists what it could load. What it can, it says when it is to open something:
		// this, of which it then misses the rest.
		_, err := say(ctx, "qemu-img", "info", `json:{"driver":"rbd"}`)
		if err == nil || !strings.Contains(err.Error(), "Parameter") {
			qemuImgRBD = err
		}
	}
	return qemuImg, qemuImgRBD, prlimit
}

// networkConf is where libvirt is told how to filter.
const networkConf = "/etc/libvirt/network.conf"

func gatherFirewall(ctx context.Context) Firewall {
	var w Firewall
	var tables, rules string
	tables, w.NFT = say(ctx, "nft", "list", "tables")
	rules, w.IPTables = say(ctx, "iptables", "-w", "-S", "FORWARD")
	w.Table = strings.Contains(tables, "table ip libvirt_network")
	w.Chains = strings.Contains(rules, "-j LIBVIRT_")
	if content, err := os.ReadFile(networkConf); err == nil {
		w.Backend = strings.Trim(strings.TrimSpace(confOf(string(content), "firewall_backend")), `"`)
	}
	return w
}

// confOf reads a setting of a file of libvirt's.
func confOf(content, name string) string {
	for line := range strings.Lines(content) {
		if key, value, is := strings.Cut(line, "="); is && strings.TrimSpace(key) == name {
			return value
		}
	}
	return ""
}

// pluginFile is how the plugin's file has to be called: as its block in the agent's
// configuration.
const pluginFile = "nomad-driver-virt"

func gatherPlugin(dir string) Plugin {
	if dir == "" {
		return Plugin{}
	}
	own, ownErr := os.Executable()
	p := Plugin{Path: filepath.Join(dir, pluginFile), Own: own}
	info, err := os.Stat(p.Path)
	switch {
	case err != nil:
		p.Err = err
		return p
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		p.Err = fmt.Errorf("%s is no file that can be executed", p.Path)
		return p
	}
	p.Other = ownErr == nil && digest(own) != digest(p.Path)
	return p
}

// pluginsLeft lists what Nomad would load of its default directory, and does not of
// the one that it is told: packages of plugins link them into the former.
func pluginsLeft(agent Agent) (dir string, left []string) {
	if agent.DataDir == "" {
		return "", nil
	}
	dir = filepath.Join(agent.DataDir, "plugins")
	if sameFile(dir, agent.PluginDir) {
		return dir, nil
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		name := e.Name()
		if name != pluginFile && isProgram(filepath.Join(dir, name)) && !isProgram(filepath.Join(agent.PluginDir, name)) {
			left = append(left, name)
		}
	}
	return dir, left
}

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return filepath.Clean(a) == filepath.Clean(b)
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// isProgram tells whether a path leads to a file that can be executed.
func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// digest is of a file's content; "": it cannot be read.
func digest(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return ""
	}
	return string(sum.Sum(nil))
}
