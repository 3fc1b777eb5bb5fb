package doctor

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"nomad-driver-virt/hypervisor"
)

const (
	libvirtPatience = 15 * time.Second // libvirt may probe QEMU to answer
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

func (l *Libvirt) ask(ctx context.Context, host *hypervisor.Host, s Settings) (err error) {
	if l.Version, l.QEMU, err = host.Versions(ctx); err != nil {
		return err
	}
	if l.Runs, err = host.QEMU(ctx); err != nil {
		return err
	}
	l.UserName = userName(l.Runs.User)
	if l.Facts, err = host.Facts(ctx, "", ""); err != nil {
		return err
	}
	if s.NWFilter != "" {
		l.NWFilter = host.HasNWFilter(ctx, s.NWFilter)
	}
	networks, err := host.NetworkStates(ctx)
	if err != nil {
		return err
	}
	for _, n := range networks {
		_, err := os.Stat(filepath.Join("/sys/class/net", n.Bridge))
		l.Networks = append(l.Networks, Network{n, err == nil})
	}
	for _, p := range s.Pools {
		if p.Ceph == nil {
			state, err := host.DirectoryPool(ctx, p.Name, p.Path)
			l.Pools[p.Name] = PoolState{state, err}
		}
	}
	return nil
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
