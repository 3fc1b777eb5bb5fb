package driver

import (
	"context"
	"time"

	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/turns"
)

// leastInterval is how often statistics may be asked for.
const leastInterval = 100 * time.Millisecond

// TaskStats delivers what the VM of a task uses, at once and at each interval,
// until the context or the VM ends. While libvirt is away it delivers nothing.
func (d *Driver) TaskStats(ctx context.Context, id string, interval time.Duration) (<-chan *drivers.TaskResourceUsage, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	interval = max(interval, leastInterval)
	_, machines := d.connected()
	usages := make(chan *drivers.TaskResourceUsage)
	go func() {
		defer close(usages)
		u := usage{compute: d.computes()}
		for next := time.Duration(0); ; next = interval {
			select {
			case <-time.After(next):
			case <-t.ended:
				return
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
			stats, is := machines.stats.of(ctx, t.vm, interval)
			if !is {
				continue
			}
			select {
			case usages <- u.of(stats):
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}()
	return usages, nil
}

// computes is what the CPUs of this client can do.
func (d *Driver) computes() cpustats.Compute {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.compute
}

// sampler reads the statistics of all VMs at once, for all who want those of one:
// libvirt is asked once in each interval, however many they are.
type sampler struct {
	read func(context.Context) (map[string]hypervisor.Stats, error)

	// turn guards the fields below. It is held while libvirt is asked: the others
	// wait for its answer, and the turn ends with their contexts.
	turn turns.Turns
	at   time.Time
	last map[string]hypervisor.Stats
}

// of returns the statistics of a VM, which are no older than an interval; false
// if there are none.
func (s *sampler) of(ctx context.Context, vm string, interval time.Duration) (hypervisor.Stats, bool) {
	done, err := s.turn.Take(ctx, "")
	if err != nil {
		return hypervisor.Stats{}, false
	}
	defer done()
	// Who asks for the next is a little early now and then.
	if time.Since(s.at) >= interval*9/10 {
		all, err := s.read(ctx)
		if err != nil {
			return hypervisor.Stats{}, false
		}
		s.last, s.at = all, time.Now()
	}
	stats, is := s.last[vm]
	return stats, is
}

// usage turns measurements of one VM into what Nomad is told.
type usage struct {
	compute cpustats.Compute
	before  hypervisor.Stats
	cpu     drivers.CpuStats // of the time up to before
}

// of tells the usage since the measurement before; of the first one, that is none.
func (u *usage) of(now hypervisor.Stats) *drivers.TaskResourceUsage {
	if now.At.After(u.before.At) {
		u.cpu = u.cpuOf(now)
		u.before = now
	}
	cpu, memory := u.cpu, memoryOf(now)
	return &drivers.TaskResourceUsage{
		ResourceUsage: &drivers.ResourceUsage{CpuStats: &cpu, MemoryStats: &memory},
		Timestamp:     now.At.UnixNano(),
	}
}

// cpuOf tells the CPU time in percent of one core, and in MHz.
func (u *usage) cpuOf(now hypervisor.Stats) drivers.CpuStats {
	if now.CPU == 0 {
		return drivers.CpuStats{}
	}
	before, passed := u.before, now.At.Sub(u.before.At)
	percent := func(now, was time.Duration) float64 {
		if was == 0 || now < was { // the first, or of another QEMU
			return 0
		}
		return 100 * float64(now-was) / float64(passed)
	}
	c := drivers.CpuStats{Percent: percent(now.CPU, before.CPU), Measured: []string{"Percent"}}
	if now.User+now.System > 0 {
		c.UserMode, c.SystemMode = percent(now.User, before.User), percent(now.System, before.System)
		c.Measured = append(c.Measured, "User Mode", "System Mode")
	}
	if u.compute.NumCores > 0 {
		c.TotalTicks = c.Percent / 100 * float64(u.compute.TotalCompute) / float64(u.compute.NumCores)
		c.Measured = append(c.Measured, "Total Ticks")
	}
	return c
}

// memoryOf tells the memory that QEMU has, and what the guest uses of its own
// where it says that.
func memoryOf(now hypervisor.Stats) drivers.MemoryStats {
	var m drivers.MemoryStats
	if now.RSS > 0 {
		m.RSS = uint64(now.RSS)
		m.Measured = append(m.Measured, "RSS")
	}
	if g := now.Guest; g != nil {
		m.Usage = uint64(g.Available - g.Usable)
		m.Measured = append(m.Measured, "Usage")
		if g.Caches > 0 {
			m.Cache = uint64(g.Caches)
			m.Measured = append(m.Measured, "Cache")
		}
	}
	return m
}
