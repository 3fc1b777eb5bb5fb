// Package portmap publishes ports of VMs on addresses of the host. What is
// published stands in one nftables table of the driver's own, which changes by
// one transaction per VM and tells whose each port is.
package portmap

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"time"

	"nomad-driver-virt/vm"
)

// Table is the host's table of published ports. Changes to it happen one after
// another; it may be used by several goroutines, and by one process of a host.
type Table struct {
	turn    chan struct{}   // who has put something in may use what is below
	all     published       // what the kernel holds; nil: not known
	waits   map[string]bool // VMs that had to leave ports to others
	doors   map[string]bool // bridges whose route_localnet this process has set
	fronts  map[string]bool // versions of IP, and whether this process lets connections of them in; none: not known
	adopted bool            // there is no table of an earlier version any more
	form    string          // of the table as it was written last, but for its elements; "": not known
	changed map[port]string // ports whose flows are not yet ended, and the VMs that changed them

	within time.Duration     // changeWithin, unless a test is in a hurry
	forget func(flows) error // forgetFlows, unless a test has it fail
}

// changeWithin bounds a change from when it has its turn: a program that hangs is not to
// keep all others from theirs.
const changeWithin = 30 * time.Second

// New returns the host's table. It asks the kernel nothing yet.
func New() *Table {
	return &Table{
		turn:    make(chan struct{}, 1),
		waits:   make(map[string]bool),
		doors:   make(map[string]bool),
		fronts:  make(map[string]bool),
		changed: make(map[port]string),
		within:  changeWithin,
		forget:  forgetFlows,
	}
}

// Publish publishes the ports of a VM, in place of all that the same VM
// published before: one publication for each address that it has. Without ports
// it withdraws the VM's. Ports beside chosen ones are published where nobody else
// has them, and taken from others for chosen ones.
//
// It fails, and changes nothing, when another VM holds one of them, unless mayHold
// says of that VM that it may: then the port is left to it, and returned among
// those that are. Restore publishes them when their holders have withdrawn them. It
// fails as well when a process of the host has a chosen port that no VM has yet, and
// when ports of another VM lead to the address that the VM was given.
func (t *Table) Publish(ctx context.Context, name string, all []vm.Publication, mayHold func(name string) bool) ([]Held, error) {
	own, err := publishedBy(all...)
	var held []Held
	if err == nil {
		held, err = t.change(ctx, name, own, placesGiven(all), mayHold)
	}
	if err != nil {
		return nil, fmt.Errorf("publish ports of VM %q: %w", name, err)
	}
	return held, nil
}

// Held is a port that another VM holds.
type Held struct{ Label, By string }

// Withdraw removes everything that is published for a VM, whichever process
// published it, and all traces of this package with the last VM. A VM that
// publishes nothing is no error.
func (t *Table) Withdraw(ctx context.Context, name string) error {
	if _, err := exec.LookPath("nft"); err != nil {
		return nil //nolint:nilerr // without the program nothing was ever published
	}
	if _, err := t.change(ctx, name, nil, nil, nobody); err != nil {
		return fmt.Errorf("withdraw ports of VM %q: %w", name, err)
	}
	return nil
}

// change makes own all that the VM publishes, which was given the places. What is
// remembered saves reading the table back for each change. It is not relied on for a
// failure: others may have changed the kernel's, so the kernel is asked, and the change
// tried again, unless it was made and the failure is of what comes after.
func (t *Table) change(ctx context.Context, name string, own published, given []place, mayHold func(string) bool) ([]Held, error) {
	ctx, done, err := t.take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if t.all != nil {
		had := t.all.of(name)
		if len(own) == 0 && len(had) == 0 {
			t.noteWaits(name, nil)
			return nil, t.endFlows(ofVM(name))
		}
		held, err := t.changeKnown(ctx, name, own, given, mayHold)
		if t.all != nil || ctx.Err() != nil || errors.As(err, new(lockedError)) {
			return held, err // once more is no better
		}
		t.noteChanged(name, had, nil) // somebody may have taken them away
	}
	if t.all, err = t.load(ctx); err != nil {
		return nil, err
	}
	return t.changeKnown(ctx, name, own, given, mayHold)
}

// changeKnown is change where it is known what the kernel holds. Where the change is
// not made, it is not known any more.
func (t *Table) changeKnown(ctx context.Context, name string, own published, given []place, mayHold func(string) bool) ([]Held, error) {
	own = t.all.asItIs(name, own)
	free, held := t.all.split(name, own, mayHold, isTaken)
	if err := errors.Join(t.all.conflict(name, free), t.all.crowded(name, given)); err != nil {
		t.all = nil
		return nil, err
	}
	if err := t.all.served(free, isServed); err != nil {
		return nil, err
	}
	err := t.replace(ctx, name, free, false)
	if t.all != nil {
		t.noteWaits(name, held)
		err = errors.Join(err, t.endFlows(ofVM(name)))
	}
	return held, err
}

// take waits for the turn to use the table, which the function that it returns gives
// up, and bounds the context from then on.
func (t *Table) take(ctx context.Context) (within context.Context, done func(), err error) {
	select {
	case t.turn <- struct{}{}:
		within, cancel := context.WithTimeoutCause(ctx, t.within, fmt.Errorf("it was not done within %s", t.within))
		return within, func() {
			cancel()
			<-t.turn
		}, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

// noteWaits remembers that a VM waits for ports.
func (t *Table) noteWaits(name string, held []Held) {
	if len(held) > 0 {
		t.waits[name] = true
	} else {
		delete(t.waits, name)
	}
}

func nobody(string) bool { return false }

// replace brings the host from what the VM publishes to own. Doors open before
// the ports that need them and close in the other order, save for
// route_localnet, which is on only while the table guards it.
//
// Where a version of IP is in trouble, its ports beside chosen ones stay as they are,
// and so do chosen ones if the change may be made partly; if not, nothing changes.
// Flows to what has changed are left to endFlows. After an error t.all tells whether the
// change was made: if not, it is nil.
func (t *Table) replace(ctx context.Context, name string, own published, partly bool) error {
	reachable, trouble := t.openFronts(ctx, own)
	switch {
	case partly && maps.Equal(t.all.of(name), reachable):
		return trouble
	case !partly && !maps.Equal(own.chosen(), reachable.chosen()):
		t.all = nil
		return trouble
	case !partly: // nobody asked for what is missing
		trouble = nil
	}
	old := t.all.of(name).with(nil, t.all.evicted(name, reachable))
	if err := t.write(ctx, old, reachable); err != nil {
		t.all = nil
		return err
	}
	t.noteChanged(name, old, reachable)
	errs := []error{trouble}
	for _, bridge := range reachable.loopbackBridges() {
		errs = append(errs, t.openDoor(bridge, true))
	}
	return errors.Join(append(errs, t.closeFronts(ctx, old, t.all))...)
}

// write makes the change to the table, after it has closed doors that nothing needs
// any more.
func (t *Table) write(ctx context.Context, old, own published) error {
	after := t.all.with(old, own)
	for _, bridge := range missing(old.loopbackBridges(), after.loopbackBridges()) {
		if err := t.openDoor(bridge, false); err != nil {
			return err
		}
	}
	if _, err := run(ctx, transaction(old, own, after), "nft", "-f", "-"); err != nil {
		return err
	}
	if !t.all.sameRules(after) {
		t.form = ""
	}
	t.all = after
	return nil
}
