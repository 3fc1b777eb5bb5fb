package hypervisor

import (
	"context"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/vm"
)

// Stats is what a VM that runs has used, and what it uses now.
type Stats struct {
	At time.Time // of the measurement

	// CPU is the time of QEMU's threads since they began: all of it, and the parts
	// in the guest and QEMU, and in the host's kernel. Zero: not known.
	CPU, User, System time.Duration

	RSS vm.Bytes // QEMU's resident memory; zero: not known
	// Guest is what the guest's balloon driver says of its memory; nil: nothing.
	Guest *GuestMemory
}

// GuestMemory is the memory of a guest as its kernel sees it.
type GuestMemory struct {
	Available vm.Bytes // all there is to it
	Usable    vm.Bytes // of that, what could be used without swapping
	Caches    vm.Bytes // what can be taken back from its caches; zero: not known
}

// Stats reads the statistics of all VMs that run, by name, in one call. A VM that
// does not answer libvirt holds up no others, and tells less or nothing.
//
// See virConnectGetAllDomainStats in https://libvirt.org/html/libvirt-libvirt-domain.html
func (h *Host) Stats(ctx context.Context) (map[string]Stats, error) {
	return ofEach(ctx, h, libvirt.DomainStatsCPUTotal|libvirt.DomainStatsBalloon, statsOf)
}

// ofEach reads some statistics of all VMs that run, by name.
func ofEach[T any](ctx context.Context, h *Host, which libvirt.DomainStatsTypes, read func([]libvirt.TypedParam, time.Time) T) (map[string]T, error) {
	const flags = uint32(libvirt.ConnectGetAllDomainsStatsActive | libvirt.ConnectGetAllDomainsStatsNowait)
	records, err := call(ctx, h, "reading the statistics of domains", func(c *libvirt.Libvirt) ([]libvirt.DomainStatsRecord, error) {
		return c.ConnectGetAllDomainStats(nil, uint32(which), flags)
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	all := make(map[string]T, len(records))
	for _, r := range records {
		all[r.Dom.Name] = read(r.Params, now)
	}
	return all, nil
}

func statsOf(params []libvirt.TypedParam, at time.Time) Stats {
	values := make(map[string]uint64, len(params))
	for _, p := range params {
		if v, is := p.Value.I.(uint64); is {
			values[p.Field] = v
		}
	}
	kib := func(field string) vm.Bytes { return vm.Bytes(values[field]) * vm.KiB }
	s := Stats{
		At:     at,
		CPU:    time.Duration(values["cpu.time"]),
		User:   time.Duration(values["cpu.user"]),
		System: time.Duration(values["cpu.system"]),
		RSS:    kib(libvirt.DomainStatsBalloonRss),
	}
	usable, is := values[libvirt.DomainStatsBalloonUsable]
	if !is { // kernels before 4.6 tell only what nothing uses at all
		usable, is = values[libvirt.DomainStatsBalloonUnused]
	}
	available, current := kib(libvirt.DomainStatsBalloonAvailable), kib(libvirt.DomainStatsBalloonCurrent)
	// A kernel that can take back what the balloon holds counts that as its own.
	if most := kib(libvirt.DomainStatsBalloonMaximum); most > current && available > current {
		available -= min(most-current, available)
	}
	if is && available > 0 {
		s.Guest = &GuestMemory{
			Available: available,
			Usable:    min(vm.Bytes(usable)*vm.KiB, available),
			Caches:    kib(libvirt.DomainStatsBalloonDiskCaches),
		}
	}
	return s
}
