package driver

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

var errHung = errors.New("it hangs")

// What libvirt loses while it is being removed may run still.
func TestDisksAreKeptOfAVMThatLibvirtLosesDuringItsRemoval(t *testing.T) {
	for name, why := range map[string]end{"its task has ended": ended, "its start was forgotten": forgotten} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), emptyTask(t)
			p.start(t, cfg)
			d := p.Impl().(*Driver)
			remove := func() error { return d.machines.remove(t.Context(), vmOf(cfg), why, d.logged) }

			c.host.Fail("Destroy", errHung)
			if err := remove(); !errors.Is(err, errHung) {
				t.Fatalf("the error is %v, want %v", err, errHung)
			}
			c.host.Fail("Destroy", nil)
			mustDo(t, c.host.Undefine(t.Context(), vmOf(cfg)))
			c.host.GoAway()
			mustDo(t, c.host.Kill(vmOf(cfg)))
			c.host.ComeBack()
			mustDo(t, remove())
			if left := c.left(t); len(left) != 2 || !strings.HasPrefix(left[0], "lease of ") || !isKeptDisk(left[1], cfg) {
				t.Errorf("on the host is left %q, want the lease, and the disk to be kept", left)
			}
		})
	}
}

// The starts of a task in an allocation have the same hardware addresses.
func TestLateRemovalLeavesTheNextStartItsAddress(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	d := p.Impl().(*Driver)
	eventually(t, "its journal is remembered", func() bool {
		_, is := d.machines.recall(vmOf(cfg))
		return is
	})
	mustDo(t, c.host.Undefine(t.Context(), vmOf(cfg)))
	mustDo(t, c.host.Kill(vmOf(cfg)))
	p.wait(t, cfg)
	remove := func() error { return d.machines.remove(t.Context(), vmOf(cfg), ended, d.logged) }
	c.host.Fail("RemoveVolume", errHung)
	if err := remove(); !errors.Is(err, errHung) {
		t.Fatalf("the error is %v, want %v", err, errHung)
	}

	next := cfg.Copy()
	next.ID = strings.Replace(cfg.ID, "5a6e215e", "6b7f326f", 1)
	p.start(t, next)
	reserved := func() []string {
		return slices.DeleteFunc(c.host.Left(), func(left string) bool { return !strings.Contains(left, "52:54:") })
	}
	want := reserved()
	c.host.Fail("RemoveVolume", nil)
	mustDo(t, remove())
	if got := reserved(); len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("when the earlier VM's disks are gone, %q is there, want what the next one has, %q", got, want)
	}
}
