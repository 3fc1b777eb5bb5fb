package portmap

import (
	"context"
	"errors"
	"maps"
	"os/exec"
)

// openDoor lets packets from 127.0.0.1 out to a bridge, or no longer.
func (t *Table) openDoor(bridge string, open bool) error {
	if open {
		t.doors[bridge] = true
		return routeLocalnet(bridge, true)
	}
	err := routeLocalnet(bridge, false)
	if err == nil {
		delete(t.doors, bridge)
	}
	return err
}

// CloseDoors closes the doors to bridges that no published port needs: those of the
// loopback ports of a VM that is removed. Withdraw closes what the table tells of, and
// what this process has opened. Where somebody has taken the table away while no
// process was there, only the VM's own record tells, and no guard is left.
func (t *Table) CloseDoors(ctx context.Context, bridges []string) error {
	ctx, done, err := t.take(ctx)
	if err != nil {
		return err
	}
	defer done()
	needed := t.all
	if _, err := exec.LookPath("nft"); t.all == nil && err == nil { // without the program nothing is published
		if t.all, err = t.load(ctx); err != nil {
			return err
		}
		needed = t.all
	}
	var errs []error
	for _, bridge := range missing(bridges, needed.loopbackBridges()) {
		errs = append(errs, t.openDoor(bridge, false))
	}
	return errors.Join(errs...)
}

// openFronts lets connections to what a VM is to publish in. Of a version of IP whose
// connections do not get through, what it returns has only what is published already.
// The versions of others' ports are not asked about: those are the upkeep's.
func (t *Table) openFronts(ctx context.Context, own published) (reachable published, err error) {
	reachable = own
	var errs []error
	for _, f := range families {
		if !own.isAny(f.has) {
			continue
		}
		err := t.openFront(ctx, f)
		if err == nil {
			continue
		}
		errs = append(errs, err)
		reachable = maps.Clone(reachable)
		maps.DeleteFunc(reachable, func(k port, to target) bool { return f.has(k.Host.Addr()) && t.all[k] != to })
	}
	return reachable, errors.Join(errs...)
}

// openFront lets connections of a version of IP in.
func (t *Table) openFront(ctx context.Context, f family) error {
	err := f.open(ctx)
	if err == nil {
		t.fronts[f.name] = true
	} else if !t.fronts[f.name] {
		delete(t.fronts, f.name) // it may be open in part
	}
	return err
}

// closeFronts lets no connections in any more of versions of IP of which there are no
// ports after a change. Where there were none before either, an earlier process may
// have left its rule: it is looked for once, and no error is told of what nobody uses.
func (t *Table) closeFronts(ctx context.Context, before, after published) error {
	var errs []error
	for _, f := range families {
		isOpen, isKnown := t.fronts[f.name]
		isOpen = isOpen || before.isAny(f.has)
		if after.isAny(f.has) || isKnown && !isOpen {
			continue
		}
		err := f.close(ctx)
		t.fronts[f.name] = isOpen && err != nil
		if isOpen {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
