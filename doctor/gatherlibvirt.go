package doctor

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"nomad-driver-virt/hypervisor"
)

const (
	libvirtPatience = 15 * time.Second // libvirt may probe QEMU to answer
	networkPatience = 3 * time.Second  // of these, at most
	cephPatience    = 15 * time.Second
)

// gatherLibvirt asks libvirt what there is to know, on a connection of its own.
func gatherLibvirt(ctx context.Context, s Settings) Libvirt {
	l := Libvirt{Pools: make(map[string]PoolState)}
	l.Runs.User, l.Runs.Group = -1, -1
	host, err := hypervisor.New(s.URI)
	if err != nil {
		l.Err = err
		return l
	}
	host.SetLogin(s.User, s.Password)
	ctx, cancel := context.WithTimeout(ctx, libvirtPatience)
	defer cancel()
	leave, err := host.Once(ctx)
	if err != nil {
		l.Err = err
		return l
	}
	defer leave()
	l.Err = l.ask(ctx, host, s)
	return l
}

// ask asks a libvirt without QEMU, too, for what it knows. Pools come last: while it
// waits for Ceph it tells of none.
func (l *Libvirt) ask(ctx context.Context, host *hypervisor.Host, s Settings) (err error) {
	if l.Runs, err = host.QEMU(ctx); err != nil {
		return err
	}
	l.UserName = userName(l.Runs.User)
	l.Facts, l.NoQEMU = host.Facts(ctx, "", "")
	if l.NoQEMU != nil && ctx.Err() != nil { // it does not answer, whatever it has
		return l.NoQEMU
	}
	// QEMU's is told from what libvirt has found last, if it has.
	if l.Version, l.QEMU, err = host.Versions(ctx); l.Version == 0 {
		return err
	}
	if s.NWFilter != "" {
		l.NWFilter = host.HasNWFilter(ctx, s.NWFilter)
	}
	l.askNetworks(ctx, host)
	l.askPools(ctx, host, s.Pools)
	return nil
}

// askNetworks leaves time to ask for the rest.
func (l *Libvirt) askNetworks(ctx context.Context, host *hypervisor.Host) {
	ctx, cancel := context.WithTimeout(ctx, networkPatience)
	defer cancel()
	networks, err := host.NetworkStates(ctx)
	l.NoNetworks = err
	for _, n := range networks {
		_, err := os.Stat(filepath.Join("/sys/class/net", n.Bridge))
		l.Networks = append(l.Networks, Network{n, err == nil})
	}
}

func (l *Libvirt) askPools(ctx context.Context, host *hypervisor.Host, pools []Pool) {
	types, err := host.PoolTypes(ctx)
	l.NoCephPools = err == nil && !slices.Contains(types, "rbd")
	named, unlisted := host.PoolPaths(ctx)
	for _, p := range pools {
		var has PoolState
		if p.Ceph != nil {
			has.PoolState, has.Err = host.CephPool(ctx, p.Name, p.Ceph.RBD)
		} else if has.PoolState, has.Err = host.DirectoryPool(ctx, p.Name, p.Path); has.Err == nil {
			has.Other, has.Err = otherThan(p.Name, named[filepath.Clean(p.Path)]), unlisted
		}
		l.Pools[p.Name] = has
	}
}

func otherThan(name, found string) string {
	if found == name {
		return ""
	}
	return found
}

func userName(id int) string {
	number := strconv.Itoa(id)
	if u, err := user.LookupId(number); err == nil {
		return u.Username
	}
	return "user " + number
}

// answers tells why a pool of Ceph's cannot be used.
func answers(ctx context.Context, p Pool) error {
	ctx, cancel := context.WithTimeout(ctx, cephPatience)
	defer cancel()
	_, err := p.Ceph.List(ctx)
	return err
}
