package hypervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// Facts is what a plan needs to know of the host.
type Facts struct {
	Arch     string // the guest's, by libvirt's name
	Native   bool   // whether that is the host's own
	Machine  string // the guest's machine type; empty: libvirt's default
	Accel    vm.Accel
	VirtioFS bool     // whether directories can be shared by virtiofs
	QEMUUser string   // the number of the user that QEMU runs as; empty: not known
	Buses    []string // that a disk of the machine type can be on
	Networks []domxml.Network
}

// GuestArch is an architecture that guests can have on a host.
type GuestArch struct {
	domxml.Guest
	Accel vm.Accel
}

// guestType is what capabilities of domains are for.
type guestType struct{ arch, machine string }

type domainCapabilities struct {
	accel vm.Accel
	offer domxml.Offer
}

// Guests lists the architectures that guests can have, the host's own first. It
// looks anew each time: QEMU may have been installed for another one.
func (h *Host) Guests(ctx context.Context) ([]GuestArch, error) {
	host, err := h.hostCapabilities(ctx)
	if err != nil {
		return nil, err
	}
	var native, foreign []GuestArch
	for _, g := range host.Guests {
		if !domxml.MakesGuests(g.Arch) {
			continue
		}
		caps, err := h.capabilities(ctx, guestType{g.Arch, domxml.DefaultMachine(g.Arch)})
		switch {
		case err != nil && (g.Arch == host.Arch || !errors.Is(err, ErrRefused)):
			return nil, err
		case err != nil: // its firmware is missing, for one
		case g.Arch == host.Arch:
			native = append(native, GuestArch{g, caps.accel})
		default:
			foreign = append(foreign, GuestArch{g, caps.accel})
		}
	}
	if len(native) == 0 {
		return nil, fmt.Errorf("%w: it finds no QEMU for the host's own architecture, %s", ErrRefused, host.Arch)
	}
	slices.SortFunc(foreign, func(a, b GuestArch) int { return strings.Compare(a.Arch, b.Arch) })
	return append(native, foreign...), nil
}

// Facts reads what the host offers to a guest of an architecture and machine
// type; empty: the host's own, and the default one. What libvirt does not know,
// or has no firmware for, is ErrRefused.
func (h *Host) Facts(ctx context.Context, arch, machine string) (Facts, error) {
	host, err := h.hostCapabilities(ctx)
	if err != nil {
		return Facts{}, err
	}
	if arch == "" {
		arch = host.Arch
	}
	if machine == "" {
		machine = domxml.DefaultMachine(arch)
	}
	caps, err := h.capabilities(ctx, guestType{arch, machine})
	if err != nil {
		return Facts{}, err
	}
	networks, err := h.networks(ctx)
	if err != nil {
		return Facts{}, err
	}
	return Facts{
		Arch:     arch,
		Native:   arch == host.Arch,
		Machine:  machine,
		Accel:    caps.accel,
		VirtioFS: caps.offer.VirtioFS && virtiofsdInstalled(vhostUserDirs),
		QEMUUser: host.QEMUUser,
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

func (h *Host) hostCapabilities(ctx context.Context) (domxml.Capabilities, error) {
	document, err := call(ctx, h, "reading the host's capabilities", (*libvirt.Libvirt).Capabilities)
	if err != nil {
		return domxml.Capabilities{}, err
	}
	return domxml.ParseCapabilities(string(document))
}

// capabilities asks once in the life of a connection: libvirt may probe QEMU
// to answer.
func (h *Host) capabilities(ctx context.Context, of guestType) (domainCapabilities, error) {
	h.mu.Lock()
	offered := h.offered // another connection has another map
	known, ok := offered[of]
	h.mu.Unlock()
	if ok {
		return known, nil
	}
	found, err := h.askCapabilities(ctx, of)
	if err != nil {
		return domainCapabilities{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if offered != nil {
		offered[of] = found
	}
	return found, nil
}

func (h *Host) askCapabilities(ctx context.Context, of guestType) (domainCapabilities, error) {
	found := domainCapabilities{accel: vm.KVM}
	offered, err := h.domainCapabilities(ctx, of, vm.KVM)
	if errors.Is(err, ErrRefused) {
		// That is how libvirt says that there is no KVM, or not for this one.
		found.accel = vm.TCG
		offered, err = h.domainCapabilities(ctx, of, vm.TCG)
	}
	if err != nil {
		return domainCapabilities{}, err
	}
	found.offer, err = domxml.ParseOffer(offered)
	if err == nil && domxml.NeedsUEFI(of.arch) && !found.offer.UEFI {
		err = noFirmware(of)
	}
	return found, err
}

// noFirmware says where to get firmware, where there is any.
func noFirmware(of guestType) error {
	hint := ""
	if of.machine == domxml.DefaultMachine(of.arch) {
		hint = "; Debian has it in package qemu-efi-" + of.arch
	}
	return fmt.Errorf("%w: the host has no UEFI firmware for %s guests of machine type %s%s", ErrRefused, of.arch, of.machine, hint)
}

func (h *Host) domainCapabilities(ctx context.Context, of guestType, accel vm.Accel) (string, error) {
	document, err := call(ctx, h, "reading the capabilities of "+string(accel)+" domains", func(c *libvirt.Libvirt) (string, error) {
		return c.ConnectGetDomainCapabilities(nil, optional(of.arch), optional(of.machine), libvirt.OptString{string(accel)}, 0)
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
