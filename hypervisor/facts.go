package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// Facts is what a plan needs to know of the host.
type Facts struct {
	Arch     string // the host's, by libvirt's name
	Accel    vm.Accel
	VirtioFS bool     // whether directories can be shared by virtiofs
	Buses    []string // that a disk of the machine type can be on
	Networks []domxml.Network
}

type factsKey struct{ arch, machine string }

type domainCapabilities struct {
	arch  string
	accel vm.Accel
	offer domxml.Offer
}

// Facts reads what the host offers to a guest of an architecture and machine
// type; empty: the host's own, and libvirt's default. What a machine type that
// libvirt does not know gets is ErrRefused, with libvirt's words.
func (h *Host) Facts(ctx context.Context, arch, machine string) (Facts, error) {
	caps, err := h.capabilities(ctx, factsKey{arch, machine})
	if err != nil {
		return Facts{}, err
	}
	networks, err := h.networks(ctx)
	if err != nil {
		return Facts{}, err
	}
	return Facts{
		Arch:     caps.arch,
		Accel:    caps.accel,
		VirtioFS: caps.offer.VirtioFS && virtiofsdInstalled(vhostUserDirs),
		Buses:    caps.offer.Buses,
		Networks: networks,
	}, nil
}

// Versions returns libvirt's version and QEMU's.
func (h *Host) Versions(ctx context.Context) (ofLibvirt, ofQEMU Version, err error) {
	lib, err := call(ctx, h, "reading libvirt's version", (*libvirt.Libvirt).ConnectGetLibVersion)
	if err != nil {
		return 0, 0, err
	}
	qemu, err := call(ctx, h, "reading QEMU's version", (*libvirt.Libvirt).ConnectGetVersion)
	return Version(lib), Version(qemu), err
}

// Version is major * 1,000,000 + minor * 1,000 + release, as libvirt counts.
type Version uint64

// String is "9.0.0".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1_000%1_000, v%1_000)
}

// capabilities asks once in the life of a connection: libvirt may probe QEMU
// to answer.
func (h *Host) capabilities(ctx context.Context, key factsKey) (domainCapabilities, error) {
	h.mu.Lock()
	facts := h.facts // another connection has another map
	known, ok := facts[key]
	h.mu.Unlock()
	if ok {
		return known, nil
	}
	found, err := h.askCapabilities(ctx, key)
	if err != nil {
		return domainCapabilities{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if facts != nil {
		facts[key] = found
	}
	return found, nil
}

func (h *Host) askCapabilities(ctx context.Context, key factsKey) (domainCapabilities, error) {
	document, err := call(ctx, h, "reading the host's capabilities", (*libvirt.Libvirt).Capabilities)
	if err != nil {
		return domainCapabilities{}, err
	}
	arch, err := domxml.ParseHostArch(string(document))
	if err != nil {
		return domainCapabilities{}, err
	}
	found := domainCapabilities{arch: arch, accel: vm.KVM}
	offered, err := h.domainCapabilities(ctx, key, vm.KVM)
	if errors.Is(err, ErrRefused) {
		// That is how libvirt says that there is no KVM.
		found.accel = vm.TCG
		offered, err = h.domainCapabilities(ctx, key, vm.TCG)
	}
	if err != nil {
		return domainCapabilities{}, err
	}
	found.offer, err = domxml.ParseOffer(offered)
	return found, err
}

func (h *Host) domainCapabilities(ctx context.Context, key factsKey, accel vm.Accel) (string, error) {
	document, err := call(ctx, h, "reading the capabilities of "+string(accel)+" domains", func(c *libvirt.Libvirt) (string, error) {
		return c.ConnectGetDomainCapabilities(nil, optional(key.arch), optional(key.machine), libvirt.OptString{string(accel)}, 0)
	})
	var no libvirt.Error
	if errors.As(err, &no) {
		err = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return document, err
}

func optional(s string) libvirt.OptString {
	if s == "" {
		return nil
	}
	return libvirt.OptString{s}
}

// vhostUserDirs is where distributions describe their vhost-user programs, and
// where libvirt looks for virtiofsd.
//
// See https://www.qemu.org/docs/master/interop/vhost-user.html#backend-program-conventions
var vhostUserDirs = []string{"/etc/qemu/vhost-user", "/usr/share/qemu/vhost-user"}

// virtiofsdInstalled tells whether the host has the program that serves a
// virtiofs share; libvirt's capabilities tell only that QEMU could use one.
func virtiofsdInstalled(dirs []string) bool {
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*.json")) // its only error is of the pattern
		for _, file := range files {
			var backend struct{ Type, Binary string }
			content, err := os.ReadFile(file)
			if err != nil || json.Unmarshal(content, &backend) != nil || backend.Type != "fs" {
				continue
			}
			if _, err := os.Stat(backend.Binary); err == nil {
				return true
			}
		}
	}
	return false
}
