package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	// orphansEvery is how often VMs are looked for that belong to no task.
	orphansEvery = 15 * time.Second
	// orphanTimeout is how long a guest that nobody follows has to shut down.
	orphanTimeout = time.Minute
)

// removeOrphans removes VMs of this node that belong to no task, for as long as
// the driver lives: what is left of a start that was cut off and that nobody
// tries again, or of tasks that Nomad has lost. Such a VM has some time for its
// task to turn up, as tasks do when Nomad restarts. A plugin that Nomad does not
// use any more removes nothing: it would not hear of another's tasks.
func (d *Driver) removeOrphans(ctx context.Context, m *machines, after time.Duration) {
	seen, unread := make(orphans), make(unreadable)
	var looked, removed news
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(orphansEvery, after)):
		}
		node := d.ownNode()
		if node == "" {
			clear(seen)
			continue
		}
		names, bad, err := m.host.Owned(ctx,
			func(name string) bool { return !d.knows(name) },
			func(o vm.Owner) bool { return o.Node == node })
		if err != nil {
			// Else libvirt is away, which is told elsewhere.
			if m.host.Health(ctx) == nil && looked.is(err, time.Now()) {
				d.logger.Warn("VMs that belong to no task could not be looked for; it is tried again", "error", err)
			}
			continue
		}
		looked = news{}
		for _, name := range unread.look(bad) {
			d.logger.Warn("it cannot be told whether a VM belongs to a task; it is left as it is, "+
				"remove it by hand if it is not needed", "vm", name, "error", bad[name])
		}
		fresh, over := seen.look(time.Now(), names, after)
		for _, name := range fresh {
			d.logger.Warn("a VM of this node belongs to no task; it will be shut down and removed, "+
				"and its disks are kept for some time", "vm", name, "in", after.String(), "kept", keepOrphans.String())
		}
		if err := d.removeThose(ctx, m, over); removed.is(err, time.Now()) {
			d.logger.Warn("not all VMs that belong to no task could be removed; it is tried again", "every", orphansEvery.String(), "error", err)
		}
	}
}

// removeThose removes VMs that have belonged to no task for long, but for those that do
// by now.
func (d *Driver) removeThose(ctx context.Context, m *machines, names []string) error {
	var errs []error
	for _, name := range names {
		if d.knows(name) || d.ownNode() == "" {
			continue
		}
		if err := d.removeOrphan(ctx, m, name); err != nil {
			errs = append(errs, fmt.Errorf("removing VM %s, which belongs to no task: %w", name, err))
			continue
		}
		d.logger.Info("a VM that belonged to no task is removed", "vm", name)
	}
	return errors.Join(errs...)
}

// removeOrphan ends a VM as that of a task that is stopped, and removes it.
func (d *Driver) removeOrphan(ctx context.Context, m *machines, name string) error {
	if err := m.shutDown(ctx, name); err != nil {
		return err
	}
	return m.remove(ctx, name, orphaned, d.logged)
}

// logged is told of what no task's events can tell.
func (d *Driver) logged(format string, args ...any) { d.logger.Warn(fmt.Sprintf(format, args...)) }

// shutDown asks the guest of a VM that nobody follows to shut down, and destroys the
// VM if it has not after some time. One that is paused may never have run, and does not
// now.
func (m *machines) shutDown(ctx context.Context, name string) error {
	guest, err := m.host.Guest(ctx, name)
	if errors.Is(err, hypervisor.ErrNoDomain) {
		return nil // it went in between
	}
	if err != nil || guest == hypervisor.GuestOther {
		return err
	}
	_, _ = m.learn(ctx, name) // where it fails, less is known at the end
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := newTask(&drivers.TaskConfig{}, name, time.Now(), nil)
	go t.follow(ctx, m.host, func(string, ...any) {})
	_, err = t.stop(ctx, m.host, orphanTimeout, orphanTimeout.String())
	return err
}

// knows tells whether a VM belongs to a task, or to one that is being started.
func (d *Driver) knows(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.starting[name] > 0 {
		return true
	}
	for _, t := range d.tasks {
		if t.vm == name {
			return true
		}
	}
	return false
}

// starts notes that a VM is being made, until the function that it returns is
// called. It also notes which node this is: a task tells.
func (d *Driver) starts(name, node string) (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if node != "" {
		d.node = node
	}
	d.starting[name]++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.starting[name]--; d.starting[name] == 0 {
			delete(d.starting, name)
		}
	}
}

// used notes that Nomad uses this plugin, until the function that it returns is
// called: it has a stream of fingerprints open, which ends with the agent.
func (d *Driver) used() (done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.users++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.users--
	}
}

// ownNode is the node that this plugin is responsible for; "" where no task has
// told it yet, or Nomad does not use the plugin.
func (d *Driver) ownNode() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.users == 0 {
		return ""
	}
	return d.node
}

// unreadable are VMs of which nobody knows whose they are.
type unreadable map[string]error

// look notes which there are now, with why it is so, and returns those that are there for
// the first time, in order.
func (u unreadable) look(now map[string]error) (fresh []string) {
	maps.DeleteFunc(u, func(name string, _ error) bool { return now[name] == nil })
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if u[name] == nil {
			u[name] = now[name]
			fresh = append(fresh, name)
		}
	}
	return fresh
}

// orphans are VMs that belong to no task, and since when they have been seen.
type orphans map[string]time.Time

// look notes which there are now. It returns those that are there for the first
// time, and those that have been there for long enough.
func (o orphans) look(now time.Time, names []string, after time.Duration) (fresh, over []string) {
	maps.DeleteFunc(o, func(name string, _ time.Time) bool { return !slices.Contains(names, name) })
	for _, name := range names {
		since, is := o[name]
		switch {
		case !is:
			o[name] = now
			fresh = append(fresh, name)
		case now.Sub(since) >= after:
			over = append(over, name)
		}
	}
	return fresh, over
}
