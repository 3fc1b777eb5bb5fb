package portmap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"slices"

	"nomad-driver-virt/vm"
)

// Restored is a VM whose ports were put right, or have to wait since others' were.
type Restored struct {
	VM       string
	TookOver bool   // it had to wait for one of them until now
	Held     []Held // by others from now on
}

// Restore brings the host to what is wanted, whatever others have done to it:
// flushed the ruleset, restarted a network, added rules before ours. wanted is
// asked once nobody else changes the table, and lists those first who are to have what
// several want and nobody has; gone tells of the VM of a port that is
// not wanted whether there is none any more, so that the port is withdrawn. Ports
// that others hold wait until those have withdrawn them. It returns the VMs whose
// ports were put right, and those that have to wait since. Where all is as it should be,
// nothing is written.
func (t *Table) Restore(ctx context.Context, wanted func() []vm.Publication, gone func(name string) bool) (restored []Restored, err error) {
	ctx, done, err := t.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	want, had := wanted(), t.all
	if _, err := exec.LookPath("nft"); err != nil && len(want) == 0 {
		return nil, nil //nolint:nilerr // without the program nothing was ever published
	}
	if t.all, err = t.load(ctx); err != nil {
		return nil, err
	}
	form, err := t.formNow(ctx)
	if err != nil {
		return nil, err
	}
	isBroken := len(t.all) > 0 && form != t.form
	restored, err = t.restoreEach(ctx, want, had, gone)
	if t.all == nil { // it is not known what the kernel holds
		return restored, err
	}
	t.noteChanged("", had, t.all)
	return restored, errors.Join(err, t.restoreRules(ctx, isBroken, len(restored) > 0), t.restoreDoors(ctx), t.endFlows(ofAll))
}

// restoreRules writes the rules anew, but no ports, where the rules are broken and
// putting ports right has not written them. It remembers how they look then.
func (t *Table) restoreRules(ctx context.Context, areBroken, areWritten bool) error {
	if len(t.all) == 0 || !areBroken && !areWritten && t.form != "" {
		return nil
	}
	if areBroken && !areWritten {
		if _, err := run(ctx, transaction(nil, nil, t.all), "nft", "-f", "-"); err != nil {
			return err
		}
	}
	var err error
	t.form, err = t.formNow(ctx)
	return err
}

// restoreEach puts right what each VM publishes, and had, as far as that is
// remembered. It ends early where it is not known any more what the kernel holds.
func (t *Table) restoreEach(ctx context.Context, want []vm.Publication, had published, gone func(name string) bool) ([]Restored, error) {
	owns, err := publishedEach(want)
	for name, own := range owns {
		owns[name] = t.all.asItIs(name, own)
	}
	errs := []error{err}
	var restored []Restored
	replace := func(name string, own published, tookOver bool) (goesOn bool) {
		before := t.all.of(name).chosen()
		if err := t.replace(ctx, name, own, true); err != nil {
			errs = append(errs, fmt.Errorf("publish ports of VM %q: %w", name, err))
		}
		if t.all == nil {
			t.all, err = t.load(ctx)
			errs = append(errs, err)
			return err == nil
		}
		// What is beside a chosen address comes and goes with what others use.
		if !maps.Equal(before, t.all.of(name).chosen()) {
			restored = append(restored, Restored{VM: name, TookOver: tookOver})
		}
		return true
	}
	for _, name := range t.all.names() {
		if _, is := owns[name]; !is && gone(name) && !replace(name, nil, false) {
			return restored, errors.Join(errs...)
		}
	}
	lost := t.all.lost(had, owns)
	for _, name := range t.inTurn(want, owns) {
		free, held := t.all.split(name, owns[name], func(string) bool { return true }, isTakenFor(name, lost))
		waited := t.waits[name]
		t.noteWaits(name, held)
		if !maps.Equal(t.all.of(name), free) && !replace(name, free, waited && len(held) == 0) {
			break
		}
		if !waited {
			restored = withHeld(restored, name, held)
		}
	}
	return restored, errors.Join(errs...)
}

// withHeld adds what others hold of a VM's ports since theirs were put right. It may
// have been its own, before somebody took all away.
func withHeld(restored []Restored, name string, held []Held) []Restored {
	of := func(name string) func(Restored) bool { return func(r Restored) bool { return r.VM == name } }
	held = slices.DeleteFunc(slices.Clone(held), func(h Held) bool { return !slices.ContainsFunc(restored, of(h.By)) })
	if len(held) == 0 {
		return restored
	}
	at := slices.IndexFunc(restored, of(name))
	if at < 0 {
		return append(restored, Restored{VM: name, Held: held})
	}
	restored[at].Held = held
	return restored
}

// lost returns what VMs had beside chosen addresses, have not, and want as it was.
func (p published) lost(had published, owns map[string]published) published {
	lost := published{}
	for k, t := range had {
		if _, is := p[k]; !is && t.Beside && owns[t.VM][k] == t {
			lost[k] = t
		}
	}
	return lost
}

// isTakenFor is isTaken, and tells of what another VM has lost, too, so that it is
// not the first in turn that gets what several could have.
func isTakenFor(name string, lost published) func(netip.AddrPort) bool {
	return func(host netip.AddrPort) bool { return lost.isOfAnother(name, host) || isTaken(host) }
}

// inTurn lists VMs in the order in which they get their ports: as they are wanted, but
// those that had to leave some to others come last, lest they take them when all are
// published anew.
func (t *Table) inTurn(want []vm.Publication, owns map[string]published) []string {
	var first, last []string
	for _, p := range want {
		_, is := owns[p.VM]
		switch {
		case !is || slices.Contains(first, p.VM) || slices.Contains(last, p.VM):
		case t.waits[p.VM]:
			last = append(last, p.VM)
		default:
			first = append(first, p.VM)
		}
	}
	return append(first, last...)
}

// restoreDoors opens those that the ports need which there are, and closes those
// that this process has opened for ports which somebody else has taken away.
func (t *Table) restoreDoors(ctx context.Context) error {
	var errs []error
	needed := t.all.loopbackBridges()
	for _, bridge := range missing(slices.Sorted(maps.Keys(t.doors)), needed) {
		errs = append(errs, t.openDoor(bridge, false))
	}
	for _, f := range families {
		if t.all.isAny(f.has) {
			errs = append(errs, t.openFront(ctx, f))
		}
	}
	errs = append(errs, t.closeFronts(ctx, nil, t.all))
	for _, bridge := range needed {
		errs = append(errs, t.openDoor(bridge, true))
	}
	return errors.Join(errs...)
}

// formNow reads the form of the table; "" where there is no table.
func (t *Table) formNow(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "nft", "--terse", "list", "table", "inet", tableName)
	if isMissing(err) {
		return "", nil
	}
	return string(out), err
}
