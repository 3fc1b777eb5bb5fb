package driver

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	// upkeepEvery is how often it is looked whether VMs have what they had on the
	// host's network, when the kernel tells of no change.
	upkeepEvery = 30 * time.Second
	// upkeepFirst is when it is looked first: a plugin that was killed may have
	// missed something.
	upkeepFirst = 3 * time.Second
	// upkeepAfter is how long after a change: who changes one thing changes more,
	// and others change the network all the time.
	upkeepAfter = time.Second
	// upkeepTimeout bounds one look.
	upkeepTimeout = 20 * time.Second
)

// keepNetworks has VMs stay on their bridges and their ports be published, for as
// long as the driver lives: whoever flushes the host's rules, reloads its firewall
// or restarts a network takes that away.
func (d *Driver) keepNetworks(ctx context.Context, m *machines) {
	changes := d.around.watch(ctx)
	for next := upkeepFirst; ; next = upkeepEvery {
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
		case <-changes:
			wait(ctx, upkeepAfter)
		case <-d.settled:
			wait(ctx, upkeepAfter)
		}
		if ctx.Err() != nil {
			return
		}
		d.upkeep(ctx, m)
	}
}

// upkeep looks once, and puts right what is wrong.
func (d *Driver) upkeep(ctx context.Context, m *machines) {
	ctx, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	tasks := make(map[string]*task) // by VM
	for _, t := range d.onNetwork() {
		tasks[t.vm] = t
		search, err := t.learn(ctx, m.host)
		if t.isNews(err) {
			d.logger.Warn("not all is known of what a VM has on the host's network; its ports stay as they are as far as that goes, and it is tried again",
				"vm", t.vm, "error", err)
		}
		for _, i := range search {
			go d.searchAddress(t, m, i)
		}
		for _, tap := range t.tapsOf() {
			joined, err := d.around.rejoin(tap.Device, tap.Bridge)
			if err != nil {
				d.logger.Warn("a VM is off its bridge", "vm", t.vm, "error", err)
			}
			if joined {
				d.logger.Warn("a VM had been taken off its bridge, and is back on it", "vm", t.vm, "bridge", tap.Bridge)
				d.tell(t.cfg, "The VM had been taken off bridge %s by somebody, and is back on it", tap.Bridge)
			}
		}
	}
	restored, err := m.ports.Restore(ctx, d.wanted, func(name string) bool { return d.isGone(ctx, m, name) })
	if err != nil {
		d.logger.Warn("published ports may not be as they should be; it is tried again", "every", upkeepEvery.String(), "error", err)
	}
	for _, r := range restored {
		switch t, is := tasks[r.VM]; {
		case !is:
			d.logger.Info("the ports of a VM that is gone were withdrawn", "vm", r.VM)
		case len(r.Held) > 0:
			d.logger.Warn("the rules of published ports had been changed, and other tasks of the group have some of the VM's now", "vm", r.VM)
			tellHeld(r.Held, d.teller(t.cfg))
		case t.isFinding():
		case r.TookOver:
			d.tell(t.cfg, "The task's ports are published for it now, which another task of the group held")
		default:
			d.logger.Warn("the rules of published ports had been changed, and were put right", "vm", r.VM)
			d.tell(t.cfg, "Somebody had changed the host's rules for the task's ports: they are published again")
		}
	}
}

// onNetwork lists the tasks whose VMs are to be on the network.
func (d *Driver) onNetwork() []*task {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(d.tasks)), func(t *task) bool { return !t.running() || t.isDestroyed() })
}

// wanted lists what is to be published, first of the task that was started first: of
// tasks with one label, it is that one's.
func (d *Driver) wanted() []vm.Publication {
	var all []vm.Publication
	tasks := d.onNetwork()
	slices.SortFunc(tasks, func(a, b *task) int { return cmp.Or(a.started.Compare(b.started), strings.Compare(a.vm, b.vm)) })
	for _, t := range tasks {
		all = append(all, t.publications()...)
	}
	return all
}

// isGone tells whether there is no VM of a name any more.
func (d *Driver) isGone(ctx context.Context, m *machines, name string) bool {
	if d.knows(name) {
		return false
	}
	_, err := m.host.Running(ctx, name)
	return errors.Is(err, hypervisor.ErrNoDomain)
}

func (t *task) tapsOf() []vm.Tap {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taps
}

func (t *task) isDestroyed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.destroyed
}
