package hypervisortest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Run has no connection to keep up.
func (m *Memory) Run(ctx context.Context) { <-ctx.Done() }

// Health tells whether it is away.
func (m *Memory) Health(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refusal("Health")
}

// Changed is closed when it goes away or comes back.
func (m *Memory) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Versions are those of Debian 12.
func (m *Memory) Versions(ctx context.Context) (ofLibvirt, ofQEMU hypervisor.Version, err error) {
	return 9_000_000, 7_002_000, m.Health(ctx)
}

// Network is the one that a hypervisor in memory has.
var Network = domxml.Network{
	Name:     "default",
	Bridge:   "virbr0",
	Gateway:  netip.MustParsePrefix("192.168.122.1/24"),
	LeadsOut: true,
	Ranges: []domxml.AddressRange{{
		First: netip.MustParseAddr("192.168.122.2"),
		Last:  netip.MustParseAddr("192.168.122.254"),
	}},
}

// Guests has the architecture of Facts.
func (m *Memory) Guests(context.Context) ([]hypervisor.GuestArch, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Guests"); err != nil {
		return nil, err
	}
	guest := domxml.Guest{Arch: "x86_64", Machines: []string{"pc", "q35"}, Usual: []string{"pc", "q35"}}
	return []hypervisor.GuestArch{{Guest: guest, Accel: vm.TCG}}, nil
}

// Facts are those of an x86 without KVM.
func (m *Memory) Facts(_ context.Context, arch, machine string) (hypervisor.Facts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Facts"); err != nil {
		return hypervisor.Facts{}, err
	}
	if cmp.Or(arch, "x86_64") != "x86_64" || !slices.Contains([]string{"", "pc", "q35"}, machine) {
		return hypervisor.Facts{}, fmt.Errorf("%w: a %q of architecture %q", hypervisor.ErrRefused, machine, arch)
	}
	return hypervisor.Facts{
		Arch:     "x86_64",
		Native:   true,
		Accel:    vm.TCG,
		Buses:    []string{"scsi", "virtio", "usb", "sata"},
		Networks: []domxml.Network{m.network()},
	}, nil
}

// network is Network with what is reserved there.
func (m *Memory) network() domxml.Network {
	n := Network
	for of, addr := range m.reserved {
		if of.network == n.Name {
			n.Hosts = append(n.Hosts, domxml.DHCPHost{MAC: of.mac, Addr: addr})
		}
	}
	return n
}

// HasNWFilter has every filter, unless it was told to fail.
func (m *Memory) HasNWFilter(context.Context, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refusal("HasNWFilter")
}

// reservation is whom an address is reserved for, and where.
type reservation struct{ network, mac string }

// Reserve reserves the first address that is free.
func (m *Memory) Reserve(_ context.Context, network, mac string, want netip.Addr) (addr netip.Addr, wait func() error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Reserve"); err != nil {
		return addr, nil, fmt.Errorf("choosing an address in network %s: %w", network, err)
	}
	if network != Network.Name {
		return addr, nil, fmt.Errorf("choosing an address in network %s: it is not found", network)
	}
	of := reservation{network, strings.ToLower(mac)}
	addr, is := m.reserved[of]
	if !is && want.IsValid() {
		addr, is = want, true
		m.reserved[of] = addr
	}
	if !is {
		taken := make(map[netip.Addr]bool)
		for _, other := range m.reserved {
			taken[other] = true
		}
		for addr = Network.Ranges[0].First; taken[addr]; addr = addr.Next() {
		}
		m.reserved[of] = addr
	}
	return addr, func() error { return nil }, nil
}

// Release is for nothing where nothing is reserved.
func (m *Memory) Release(_ context.Context, network, mac string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Release"); err != nil {
		return fmt.Errorf("releasing an address of network %s: %w", network, err)
	}
	delete(m.reserved, reservation{network, strings.ToLower(mac)})
	return nil
}

// Leases are those of guests that have run, until GiveBack ends them.
func (m *Memory) Leases(_ context.Context, network, mac string) ([]vm.Lease, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Leases"); err != nil {
		return nil, fmt.Errorf("listing leases of network %s: %w", network, err)
	}
	addr, is := m.leased[reservation{network, strings.ToLower(mac)}]
	if !is {
		return nil, nil
	}
	return []vm.Lease{{MAC: mac, Addr: addr, Server: Network.Gateway.Addr(), Bridge: Network.Bridge}}, nil
}

// lease has the guest of a VM have what is reserved for it.
func (m *Memory) lease(d *domain) {
	for _, i := range d.interfaces {
		for of, addr := range m.reserved {
			if strings.EqualFold(of.mac, i.MAC) {
				m.leased[of] = addr
			}
		}
	}
}

// EnsureDirectoryPool makes the directory of a pool that it does not know.
func (m *Memory) EnsureDirectoryPool(_ context.Context, name, path string) error {
	known, err := m.pool(name, filepath.Clean(path))
	if err == nil && !known {
		err = os.MkdirAll(path, 0o711)
	}
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return fmt.Errorf("starting storage pool %s: %w", name, err)
	}
	return nil
}

// pool notes where a pool is, and tells whether that was known.
func (m *Memory) pool(name, path string) (known bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("EnsureDirectoryPool"); err != nil {
		return false, err
	}
	at, known := m.pools[name]
	if known && at != path {
		return true, fmt.Errorf("it is at %s, not at %s", at, path)
	}
	for other, at := range m.pools {
		if other != name && at == path {
			return false, fmt.Errorf("there is one at %s; name the pool %s", path, other)
		}
	}
	m.pools[name] = path
	return known, nil
}

// EnsureCephPool refuses: there is no cluster in memory.
func (m *Memory) EnsureCephPool(_ context.Context, name string, _ vm.RBD, _ string) error {
	return fmt.Errorf("storage pool %s: the hypervisor in memory has no Ceph", name)
}

// RefreshPool has nothing to look at: it keeps no list of volumes.
func (m *Memory) RefreshPool(context.Context, string) {}

// CreateVolume makes a file in the pool's directory: of the size of a raw volume,
// and without the header of another.
func (m *Memory) CreateVolume(_ context.Context, v vm.Volume, _ *vm.Volume) error {
	err := m.at("CreateVolume", v)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(v.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating volume %s of storage pool %s: it exists already", v.Name, v.Pool)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if v.Format != "raw" {
		return nil
	}
	return file.Truncate(int64(v.Size))
}

// at tells what keeps a volume from being made where it is to be.
func (m *Memory) at(method string, v vm.Volume) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, is := m.pools[v.Pool]
	err := m.refusal(method)
	switch {
	case err != nil:
	case !is:
		err = errors.New("there is no such pool")
	case v.Path != filepath.Join(dir, v.Name):
		err = fmt.Errorf("its path is %s, and the pool is at %s", v.Path, dir)
	default:
		return nil
	}
	return fmt.Errorf("%s %s of storage pool %s: %w", method, v.Name, v.Pool, err)
}

// RemoveVolume deletes the file, if there is one.
func (m *Memory) RemoveVolume(_ context.Context, v vm.Volume) error {
	m.mu.Lock()
	err := m.refusal("RemoveVolume")
	m.mu.Unlock()
	if err == nil {
		err = os.Remove(v.Path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("deleting volume %s of storage pool %s: %w", v.Name, v.Pool, err)
}
