package driver

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"nomad-driver-virt/hypervisor/hypervisortest"
)

// beforeDestroy is a hypervisor that does something before it first destroys a VM.
type beforeDestroy struct {
	*hypervisortest.Memory
	do func()
}

func (h beforeDestroy) Destroy(ctx context.Context, name string) error {
	h.do()
	return h.Memory.Destroy(ctx, name)
}

// Nomad's agent may end while it waits for the start of a task, and its plugin go on. The
// next agent starts the task anew, and it is looked after ports just then.
func TestPortsOfAForgottenStartAreNotPublishedAgain(t *testing.T) {
	c := newClient(t)
	look := func() { // it is over when the next one is asked for
		c.changes <- struct{}{}
		c.changes <- struct{}{}
	}
	c.libvirt = func(Libvirt) (libvirtHost, error) {
		return beforeDestroy{c.host, sync.OnceFunc(look)}, nil
	}
	p, first := c.plugin(t), emptyTask(t)
	p.start(t, first)

	again := first.Copy()
	again.ID = first.ID[:strings.LastIndex(first.ID, "/")] + "/deadbeef"
	p.start(t, again)
	p.mustBeUnknown(t, first)
	look()
	if leads := c.ports.leads(vmOf(first)); len(leads) > 0 {
		t.Errorf("the VM that is gone publishes %q", leads)
	}
	if want := c.ports.leads(vmOf(again)); !slices.ContainsFunc(want, func(way string) bool { return strings.HasPrefix(way, "http to ") }) {
		t.Errorf("the VM that runs publishes %q, want its port", want)
	}
	mustDo(t, p.DestroyTask(again.ID, true))
	c.nothingLeft(t)
}
