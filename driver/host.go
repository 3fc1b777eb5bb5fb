package driver

import (
	"context"
	"net/netip"
	"os"
	"time"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/console"
	"nomad-driver-virt/dhcp"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/portmap"
	"nomad-driver-virt/share"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/systemd"
	"nomad-driver-virt/vm"
)

// libvirtHost is what the driver asks of a hypervisor. hypervisor.Host tells what
// each of them does, and does it; tests have one in memory.
type libvirtHost interface {
	domains
	storage.Libvirt

	// Run keeps the connection up until the context ends.
	Run(ctx context.Context)
	Health(ctx context.Context) error
	Changed() <-chan struct{}
	Versions(ctx context.Context) (ofLibvirt, ofQEMU hypervisor.Version, err error)
	Guests(ctx context.Context) ([]hypervisor.GuestArch, error)
	Facts(ctx context.Context, arch, machine string) (hypervisor.Facts, error)
	HasNWFilter(ctx context.Context, name string) error

	Reserve(ctx context.Context, network, mac string, want netip.Addr) (addr netip.Addr, wait func() error, err error)
	Release(ctx context.Context, network, mac string) error
	Leases(ctx context.Context, network, mac string) ([]vm.Lease, error)
}

// domains are the VMs of a host, by name.
type domains interface {
	Define(ctx context.Context, s *vm.Spec) error
	Undefine(ctx context.Context, name string) error
	Journal(ctx context.Context, name string) (domxml.Journal, error)
	Owned(ctx context.Context, maybe func(name string) bool, by func(vm.Owner) bool) (owned []string, unreadable map[string]error, err error)
	Interfaces(ctx context.Context) ([]domxml.Interface, error)

	Start(ctx context.Context, name string) error
	SetCPUShares(ctx context.Context, name string, shares uint64) error
	Resume(ctx context.Context, name string) error
	Suspend(ctx context.Context, name string) error
	Shutdown(ctx context.Context, name string) (hypervisor.Way, error)
	AskAgent(ctx context.Context, name string) error
	PressPowerButton(ctx context.Context, name string) error
	NoteStop(ctx context.Context, name string, by time.Time) error
	StopNoted(ctx context.Context, name string) (time.Time, error)
	NotePause(ctx context.Context, name string, paused bool) error
	PauseNoted(ctx context.Context, name string) (bool, error)
	NoteAddresses(ctx context.Context, name string, found map[string]netip.Addr) error
	AddressesNoted(ctx context.Context, name string) (map[string]netip.Addr, error)
	Destroy(ctx context.Context, name string) error

	Running(ctx context.Context, name string) (bool, error)
	Guest(ctx context.Context, name string) (hypervisor.Guest, error)
	Taps(ctx context.Context, name string) ([]vm.Tap, error)
	AgentAddresses(ctx context.Context, name string) (map[string][]netip.Addr, error)
	DiskError(ctx context.Context, name string) (hypervisor.DiskError, error)
	Stats(ctx context.Context) (map[string]hypervisor.Stats, error)
	WaitEnd(ctx context.Context, name string, look func(context.Context, hypervisor.Guest) time.Duration) (vm.Exit, error)
}

// publisher publishes ports of VMs: portmap.Table.
type publisher interface {
	Publish(ctx context.Context, name string, all []vm.Publication, mayHold func(name string) bool) ([]portmap.Held, error)
	Withdraw(ctx context.Context, name string) error
	CloseDoors(ctx context.Context, bridges []string) error
	Restore(ctx context.Context, wanted func() []vm.Publication, gone func(name string) bool) ([]portmap.Restored, error)
}

// sharer shows directories of the host to VMs: package share.
type sharer interface {
	Attach(shares []vm.Share) error
	Detach(name string) error
}

// consoles keep what VMs write to their serial consoles: package console.
type consoles interface {
	Make(name string) error
	Remove(name string) error
	Follow(ctx context.Context, name, fifo string, ended <-chan struct{}) error
}

// around is what the driver works with on its host.
type around struct {
	libvirt  func(Libvirt) (libvirtHost, error)
	ports    publisher
	shares   sharer
	consoles consoles
	links    func() ([]bridge.Link, error)
	rejoin   func(tap, bridge string) (bool, error)
	lan      neighborhood
	release  func(context.Context, vm.Lease) error // gives back what DHCP has leased
	watch    func(context.Context) <-chan struct{} // tells of changes of the host's network
	runtime  string                                // a directory below /run, which is in memory
	stopping func(context.Context) bool            // whether the host is shutting down
	uid      int                                   // of the user that the plugin runs as
}

// realHost is the host itself.
func realHost() around {
	return around{
		libvirt:  libvirtAt,
		ports:    portmap.New(),
		shares:   mounts{},
		consoles: consoleLogs{},
		links:    bridge.Links,
		rejoin:   bridge.Rejoin,
		lan:      onBridges{},
		release:  dhcp.Release,
		watch:    portmap.Watch,
		runtime:  share.Root,
		stopping: systemd.Stopping,
		uid:      os.Geteuid(),
	}
}

func libvirtAt(c Libvirt) (libvirtHost, error) {
	host, err := hypervisor.New(c.URI)
	if err != nil {
		return nil, err
	}
	host.SetLogin(c.User, c.Password)
	return host, nil
}

// onBridges is package bridge as a neighborhood.
type onBridges struct{}

func (onBridges) Neighbors(on string) ([]bridge.Neighbor, error) { return bridge.Neighbors(on) }

func (onBridges) WhoHas(ctx context.Context, on string, addr netip.Addr) ([]string, error) {
	return bridge.WhoHas(ctx, on, addr)
}

func (onBridges) Hear(ctx context.Context, on string) (<-chan bridge.Neighbor, error) {
	return bridge.Hear(ctx, on)
}

// mounts is package share as a sharer.
type mounts struct{}

func (mounts) Attach(shares []vm.Share) error { return share.Attach(shares) }
func (mounts) Detach(name string) error       { return share.Detach(name) }

// consoleLogs is package console as consoles.
type consoleLogs struct{}

func (consoleLogs) Make(name string) error   { return console.Make(name) }
func (consoleLogs) Remove(name string) error { return console.Remove(name) }

func (consoleLogs) Follow(ctx context.Context, name, fifo string, ended <-chan struct{}) error {
	return console.Follow(ctx, name, fifo, ended)
}
