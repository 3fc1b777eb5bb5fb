package driver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/hypervisor/hypervisortest"
	"nomad-driver-virt/portmap"
	"nomad-driver-virt/vm"
)

// The domain of a VM that an earlier version made does not say what it publishes.
func TestPortsOfEarlierVersionsAreKnown(t *testing.T) {
	ports := &structs.AllocatedPorts{
		{Label: "http", Value: 25000, To: 8000, HostIP: "192.0.2.10"},
		{Label: "another task's", Value: 25001, To: 8001, HostIP: "192.0.2.10"},
		{Label: "ssh", Value: 25002, HostIP: "127.0.0.1"},
	}
	network := &drivers.DriverNetwork{IP: "192.168.122.5", PortMap: map[string]int{"http": 8000, "ssh": 22}}
	taps := []vm.Tap{{Device: "vnet0", Bridge: "virbr0"}}
	of := func(p *structs.AllocatedPorts) *drivers.TaskConfig {
		return &drivers.TaskConfig{Resources: &drivers.Resources{Ports: p}}
	}
	want := []vm.Publication{{
		VM: "web", Bridge: "virbr0", Guest: netip.MustParseAddr("192.168.122.5"),
		Ports: []vm.Port{
			{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 8000},
			{Label: "ssh", Host: netip.MustParseAddrPort("127.0.0.1:25002"), Guest: 22},
		},
	}}
	for _, test := range []struct {
		name    string
		cfg     *drivers.TaskConfig
		network *drivers.DriverNetwork
		taps    []vm.Tap
		want    []vm.Publication
	}{
		{"all is known", of(ports), network, taps, want},
		{"it has no network", of(ports), nil, taps, nil},
		{"it has no interface", of(ports), network, nil, nil},
		{"it publishes nothing", of(ports), &drivers.DriverNetwork{IP: "192.168.122.5"}, taps, nil},
		{"the group has no ports", of(nil), network, taps, nil},
		{"nothing is known of its resources", &drivers.TaskConfig{}, network, taps, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := publishedBefore(test.cfg, "web", test.network, test.taps)
			if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// recovered is a task whose VM has a port at an address that was found, and which the
// next plugin is about to recover. Nobody knows the other address: neither Nomad, nor
// libvirt, as where its network does not run.
func recovered(t *testing.T, c *client) (cfg *drivers.TaskConfig, handle *drivers.TaskHandle) {
	t.Helper()
	first, cfg := c.plugin(t), onLAN(t)
	handle = first.start(t, cfg)
	c.hasAddress(t, cfg)
	c.changes <- struct{}{}
	c.mustLead(t, cfg, sshLeads, httpLeads)
	first.kill()
	mustDo(t, handle.SetDriverState(&handleState{VM: vmOf(cfg)}))
	mustDo(t, c.host.Release(t.Context(), "default", macOf(cfg.AllocID, cfg.Name, 0)))
	return cfg, handle
}

// What is published already is left alone while it is not known where it leads, and all
// else is kept up.
func TestPortsOfANetworkThatDoesNotRunAreLeftAlone(t *testing.T) {
	c := newClient(t)
	cfg, handle := recovered(t, c)
	mustDo(t, c.taps.add(vmOf(cfg)+"-0"))
	p := c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	for range 2 { // one look is over when the next is asked for
		c.changes <- struct{}{}
	}
	c.mustLead(t, cfg, sshLeads, httpLeads)
	if off := c.taps.all(); len(off) != 0 {
		t.Errorf("%q are off their bridges still", off)
	}
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}

func TestWhatIsKnownOfAVMIsPutRight(t *testing.T) {
	c := newClient(t)
	cfg, handle := recovered(t, c)
	mustDo(t, c.ports.remove(vmOf(cfg)))
	p := c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	c.changes <- struct{}{}
	c.mustLead(t, cfg, httpLeads)
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}

// The note is what a plugin has left that was killed, maybe before it could write that
// the address is another machine's.
func TestPortsLeadNowhereByANoteAlone(t *testing.T) {
	c := newClient(t)
	cfg, handle := recovered(t, c)
	c.lan.change(func() { c.lan.owners[netip.MustParseAddr("192.0.2.5")] = []string{otherMAC} })
	mustDo(t, c.ports.remove(vmOf(cfg)))
	c.ports.ever() // that of the first plugin
	p := c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	c.changes <- struct{}{}
	eventually(t, "the note is right", func() bool {
		noted, err := c.host.AddressesNoted(t.Context(), vmOf(cfg))
		return err == nil && len(noted) == 0
	})
	mustDo(t, p.DestroyTask(cfg.ID, true))
	if slices.Contains(c.ports.ever(), httpLeads) {
		t.Error("a port led to another machine's address, which was noted")
	}
	c.nothingLeft(t)
}

func TestNotesThatCannotBeReadEndNoUpkeep(t *testing.T) {
	for name, err := range map[string]error{"they are broken": hypervisor.ErrBadNote, "libvirt does not tell": errBroken} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			cfg, handle := recovered(t, c)
			c.host.Fail("AddressesNoted", err)
			mustDo(t, c.taps.add(vmOf(cfg)+"-0"))
			p := c.plugin(t)
			mustDo(t, p.RecoverTask(handle))
			for range 2 {
				c.changes <- struct{}{}
			}
			c.mustLead(t, cfg, sshLeads, httpLeads)
			if off := c.taps.all(); len(off) != 0 {
				t.Errorf("%q are off their bridges still", off)
			}
			if !errors.Is(err, hypervisor.ErrBadNote) { // it is read when libvirt tells
				c.host.Fail("AddressesNoted", nil)
			}
			mustDo(t, c.ports.remove(vmOf(cfg)))
			c.changes <- struct{}{}
			c.mustLead(t, cfg, httpLeads)
			mustDo(t, p.DestroyTask(cfg.ID, true))
			c.nothingLeft(t)
		})
	}
}

// withNetworks is a hypervisor in memory with networks of a test's.
type withNetworks struct {
	*hypervisortest.Memory
	networks []domxml.Network
}

func (h *withNetworks) Facts(context.Context, string, string) (hypervisor.Facts, error) {
	return hypervisor.Facts{Networks: h.networks}, nil
}

func TestWhatIsNotKnownIsAskedForAgain(t *testing.T) {
	c := newClient(t)
	cfg, _ := recovered(t, c)
	host := &withNetworks{Memory: c.host}
	task := newTask(cfg, vmOf(cfg), time.Time{}, nil)
	found, err := task.learn(t.Context(), host)
	if len(found) != 1 || !task.isNews(err) || !strings.Contains(err.Error(), "network default is not known, since none is reserved there") {
		t.Errorf("of a VM without a reservation %d addresses are to be found, %v; want one, and the reason", len(found), err)
	}
	search, err := task.learn(t.Context(), host)
	if len(search) != 0 || err == nil || task.isNews(err) {
		t.Errorf("the second time %d addresses are to be found, %v; want none, and the reason, which is no news", len(search), err)
	}
	ssh := macOf(cfg.AllocID, cfg.Name, 0)
	host.networks = []domxml.Network{{Name: "default", Hosts: []domxml.DHCPHost{{MAC: ssh, Addr: netip.MustParseAddr("192.168.122.2")}}}}
	if search, err = task.learn(t.Context(), host); len(search) != 0 || err != nil || !task.isLearned() {
		t.Errorf("with a reservation %d addresses are to be found, %v; want none, and no error", len(search), err)
	}
	task.settle(found[0].Interface, netip.Addr{})
	if got := waysOf(task.publications()); !slices.Equal(got, []string{sshLeads}) {
		t.Errorf("what is wanted is %q, want %q", got, sshLeads)
	}
}

// Who flushes the rules while no plugin runs takes along whose the ports were.
func TestPortsAreThoseOfTheTaskThatStartedFirst(t *testing.T) {
	d, _ := newDriver(t)
	began := time.Now()
	for name, after := range map[string]time.Duration{"z": 0, "b": 2, "a": 2, "c": 1} {
		task := newTask(&drivers.TaskConfig{}, name, began.Add(after*time.Second), nil)
		task.published = []vm.Publication{{VM: name}}
		d.tasks[name] = task
	}
	var got []string
	for _, p := range d.wanted() {
		got = append(got, p.VM)
	}
	if want := []string{"z", "c", "a", "b"}; !slices.Equal(got, want) {
		t.Errorf("ports are wanted by %v, want %v", got, want)
	}
}

func TestTaskIsToldWhoHasItsPortsSinceTheyWerePutRight(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	c.ports.turn.Lock()
	c.ports.held = []portmap.Held{{Label: "http", By: "first-5a6e215e"}}
	c.ports.turn.Unlock()
	mustDo(t, c.ports.remove(vmOf(cfg)))
	events := p.events(t, cfg)
	c.changes <- struct{}{}
	const want = "Port http is published for VM first-5a6e215e, of another task of the group; this task takes it over when that one ends"
	if e := nextEvent(t, events); e.Message != want {
		t.Errorf("the event is\n  %s\nwant\n  %s", e.Message, want)
	}
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}
