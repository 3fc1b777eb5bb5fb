package hypervisor

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// VM is a domain of this driver, as it is found on the host.
type VM struct {
	Name    string
	State   string // by libvirt's name, "running"
	Journal domxml.Journal
}

// VMs lists the domains of this driver, by name, whether they run or not. One whose
// metadata cannot be read has no owner.
func (h *Host) VMs(ctx context.Context) ([]VM, error) {
	domains, err := h.allDomains(ctx)
	if err != nil {
		return nil, err
	}
	var vms []VM
	for _, d := range domains {
		journal, err := h.Journal(ctx, d.Name)
		if errors.Is(err, ErrNoDomain) {
			continue
		}
		if err != nil && h.Health(ctx) != nil {
			return nil, err
		}
		state, err := h.state(ctx, d.Name)
		if errors.Is(err, ErrNoDomain) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		vms = append(vms, VM{d.Name, state.name(), journal})
	}
	slices.SortFunc(vms, func(a, b VM) int { return strings.Compare(a.Name, b.Name) })
	return vms, nil
}

// name is virsh's for a state.
func (s domainState) name() string {
	switch s.state {
	case libvirt.DomainRunning, libvirt.DomainBlocked:
		return "running"
	case libvirt.DomainPaused:
		if s.guest() == GuestHalted {
			return "paused by a disk error"
		}
		return "paused"
	case libvirt.DomainShutdown:
		return "in shutdown"
	case libvirt.DomainShutoff:
		return "shut off"
	case libvirt.DomainCrashed:
		return "crashed"
	case libvirt.DomainPmsuspended:
		return "asleep"
	}
	return "unknown"
}

// QEMU tells how libvirt runs QEMU.
func (h *Host) QEMU(ctx context.Context) (domxml.QEMU, error) {
	document, err := call(ctx, h, "reading the host's capabilities", (*libvirt.Libvirt).Capabilities)
	if err != nil {
		return domxml.QEMU{}, err
	}
	return domxml.ParseQEMU(string(document))
}

// NetworkState is a network of libvirt's, whether it runs or not.
type NetworkState struct {
	domxml.Network
	Active, Autostart bool
}

// NetworkStates lists all networks.
func (h *Host) NetworkStates(ctx context.Context) ([]NetworkState, error) {
	return call(ctx, h, "listing networks", func(c *libvirt.Libvirt) ([]NetworkState, error) {
		all, _, err := c.ConnectListAllNetworks(1, 0)
		var states []NetworkState
		for _, n := range all {
			document, err := c.NetworkGetXMLDesc(n, 0)
			if err != nil {
				return nil, err
			}
			parsed, err := domxml.ParseNetwork(document)
			if err != nil {
				return nil, err
			}
			active, err := c.NetworkIsActive(n)
			if err != nil {
				return nil, err
			}
			autostart, err := c.NetworkGetAutostart(n)
			if err != nil {
				return nil, err
			}
			states = append(states, NetworkState{parsed, active == 1, autostart == 1})
		}
		return states, err
	})
}

// PoolState tells of the storage pool that libvirt has by the name of one of the
// plugin's configuration.
type PoolState struct {
	Defined, Active bool
}

// DirectoryPool looks at the storage pool that EnsureDirectoryPool makes, and makes
// nothing. A pool of that name that is something else is an error.
func (h *Host) DirectoryPool(ctx context.Context, name, path string) (PoolState, error) {
	return h.lookAtPool(ctx, name, func(is domxml.Pool) error { return sameDirectory(is, path) })
}

// CephPool looks at the storage pool that EnsureCephPool makes, as DirectoryPool does.
func (h *Host) CephPool(ctx context.Context, name string, r vm.RBD) (PoolState, error) {
	return h.lookAtPool(ctx, name, func(is domxml.Pool) error { return sameCephPool(is, r) })
}

func (h *Host) lookAtPool(ctx context.Context, name string, same func(domxml.Pool) error) (PoolState, error) {
	return call(ctx, h, "looking at storage pool "+name, func(c *libvirt.Libvirt) (PoolState, error) {
		pool, err := c.StoragePoolLookupByName(name)
		if isCode(err, libvirt.ErrNoStoragePool) {
			return PoolState{}, nil
		}
		if err != nil {
			return PoolState{}, err
		}
		document, err := c.StoragePoolGetXMLDesc(pool, 0)
		if err != nil {
			return PoolState{}, err
		}
		is, err := domxml.ParsePool(document)
		if err != nil {
			return PoolState{}, err
		}
		if err := same(is); err != nil {
			return PoolState{}, err
		}
		active, err := c.StoragePoolIsActive(pool)
		return PoolState{Defined: true, Active: active == 1}, err
	})
}

// PoolPaths lists the names of libvirt's pools that have a directory, whoever has
// defined them, by its path. libvirt takes one pool for a directory.
func (h *Host) PoolPaths(ctx context.Context) (map[string]string, error) {
	all, err := call(ctx, h, "listing storage pools", definedPools)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string)
	for _, is := range all {
		if is.Path != "" {
			names[filepath.Clean(is.Path)] = is.Name
		}
	}
	return names, nil
}

// PoolTypes lists the types of storage pools that libvirt has what it takes for.
func (h *Host) PoolTypes(ctx context.Context) ([]string, error) {
	document, err := call(ctx, h, "reading what storage pools libvirt knows", func(c *libvirt.Libvirt) (string, error) {
		return c.ConnectGetStoragePoolCapabilities(0)
	})
	if err != nil {
		return nil, err
	}
	return domxml.ParsePoolTypes(document)
}
