package driver

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/vm"
)

// onLAN is a task with an interface on virbr0, and one with a port on a bridge where
// neither the job nor a libvirt network gives it an address; the port is of the group's
// tasks on either.
func onLAN(t *testing.T) *drivers.TaskConfig {
	t.Helper()
	cfg := emptyTask(t)
	mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Disks: []Disk{{Size: "1MiB"}},
		NetworkInterfaces: []NetworkInterface{
			{Bridge: &Bridge{Name: "virbr0", Ports: []string{"ssh"}}},
			{Bridge: &Bridge{Name: "br-lan", Ports: []string{"http"}}},
		},
	}))
	return cfg
}

const (
	sshLeads  = "ssh to 192.168.122.2:25001 on virbr0"
	httpLeads = "http to 192.0.2.5:8000 on br-lan"
)

// mustLead waits until the ports of a task's VM lead somewhere.
func (c *client) mustLead(t *testing.T, cfg *drivers.TaskConfig, want ...string) {
	t.Helper()
	slices.Sort(want)
	eventually(t, "ports lead "+strings.Join(want, ", "), func() bool { return slices.Equal(c.ports.leads(vmOf(cfg)), want) })
}

// hasAddress has the guest of a VM be at an address on br-lan, and its agent say so.
func (c *client) hasAddress(t *testing.T, cfg *drivers.TaskConfig) (own netip.Addr) {
	t.Helper()
	mac, own := macOf(cfg.AllocID, cfg.Name, 1), netip.MustParseAddr("192.0.2.5")
	c.lan.change(func() { c.lan.owners = map[netip.Addr][]string{own: {mac}} })
	mustDo(t, c.host.Address(vmOf(cfg), map[string][]netip.Addr{mac: {own}}))
	return own
}

// The address of a guest on a bridge without a libvirt network is found when the
// guest has one, and known to the next plugin.
func TestPortsArePublishedWhenTheAddressIsFound(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), onLAN(t)
	events := p.events(t, cfg)
	handle := p.start(t, cfg)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "Started VM") {
		t.Errorf("the first event is %q", e.Message)
	}
	c.mustLead(t, cfg, sshLeads)

	c.hasAddress(t, cfg)
	c.changes <- struct{}{}
	c.mustLead(t, cfg, sshLeads, httpLeads)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "br-lan is 192.0.2.5, as its agent says; published for it: http") {
		t.Errorf("the event is %q", e.Message)
	}

	p.kill()
	mustDo(t, c.host.Address(vmOf(cfg), nil)) // the next plugin has it from the note
	mustDo(t, c.ports.remove(vmOf(cfg)))
	p = c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	events = p.events(t, cfg)
	c.changes <- struct{}{}
	c.mustLead(t, cfg, sshLeads, httpLeads)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "published again") {
		t.Errorf("the event is %q", e.Message)
	}
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}

// An interface that publishes nothing lends its address to no other's ports.
func TestPortsOfAnotherInterfaceWaitForItsAddress(t *testing.T) {
	for name, recovered := range map[string]bool{"of the plugin that started it": false, "of the next one": true} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t)
			p, cfg := c.plugin(t), onLAN(t)
			mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
				Disks: []Disk{{Size: "1MiB"}},
				NetworkInterfaces: []NetworkInterface{
					{Bridge: &Bridge{Name: "virbr0"}},
					{Bridge: &Bridge{Name: "br-lan", Ports: []string{"http"}}},
				},
			}))
			handle := p.start(t, cfg)
			if recovered {
				p.kill()
				p = c.plugin(t)
				mustDo(t, p.RecoverTask(handle))
			}
			for range 2 { // one look is over when the next is asked for
				c.changes <- struct{}{}
			}
			if leads := c.ports.leads(vmOf(cfg)); len(leads) != 0 {
				t.Errorf("ports lead %q, and nobody knows the address", leads)
			}
			mustDo(t, p.DestroyTask(cfg.ID, true))
			c.nothingLeft(t)
		})
	}
}

func TestPortsAreTriedAgainAfterAFailedNote(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), onLAN(t)
	p.start(t, cfg)
	events := p.events(t, cfg)
	c.hasAddress(t, cfg)
	c.host.Fail("NoteAddresses", errBroken)
	c.changes <- struct{}{}
	if e := nextEvent(t, events); !strings.Contains(e.Message, "cannot be published") {
		t.Errorf("the event is %q", e.Message)
	}
	c.mustLead(t, cfg, sshLeads)
	c.host.Fail("NoteAddresses", nil)
	c.mustLead(t, cfg, sshLeads, httpLeads)
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}

// libvirt is away, which is no reason to lead others to a machine that is none of
// theirs.
func TestPortsAreWithdrawnWhileTheHypervisorIsAway(t *testing.T) {
	c := newClient(t)
	first, cfg := c.plugin(t), onLAN(t)
	handle := first.start(t, cfg)
	own := c.hasAddress(t, cfg)
	c.changes <- struct{}{}
	c.mustLead(t, cfg, sshLeads, httpLeads)
	first.kill() // the next one looks at once, and not after half a minute

	p := c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	c.lan.change(func() { c.lan.owners[own] = []string{otherMAC} })
	c.host.Fail("NoteAddresses", errBroken)
	c.changes <- struct{}{}
	c.mustLead(t, cfg, sshLeads)
	c.host.Fail("NoteAddresses", nil)
	eventually(t, "the note is right", func() bool {
		noted, err := c.host.AddressesNoted(t.Context(), vmOf(cfg))
		return err == nil && len(noted) == 0
	})
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}

// The table may have gone while no plugin was there: the VM's own record tells what
// was opened for it.
func TestDoorsOfAVMAreClosedByItsRecord(t *testing.T) {
	c := newClient(t)
	first, cfg := c.plugin(t), onLAN(t)
	handle := first.start(t, cfg)
	first.kill()
	mustDo(t, c.ports.remove(vmOf(cfg)))
	mustDo(t, c.host.PowerOff(vmOf(cfg)))
	p := c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	mustDo(t, p.DestroyTask(cfg.ID, true))
	if want := []string{"virbr0"}; !slices.Equal(c.ports.doors(), want) { // ssh is on 127.0.0.1, http is not
		t.Errorf("the doors of %q were closed, want %q", c.ports.doors(), want)
	}
	c.nothingLeft(t)
}

func TestWhatIsToBeFound(t *testing.T) {
	const own, other = "52:54:00:12:34:56", "52:54:00:65:43:21"
	ipv4 := vm.Port{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:80"), Guest: 8000}
	ipv6 := vm.Port{Label: "http", Host: netip.MustParseAddrPort("[fd99::2]:80"), Guest: 8000, Beside: true}
	address6 := netip.MustParsePrefix("fd42::5/64")
	all := []vm.Interface{
		{Network: "default", Bridge: "virbr0", MAC: "52:54:00:00:00:01", Ports: []vm.Port{ipv4}},
		{Bridge: "br0", MAC: "52:54:00:00:00:02", Address: netip.MustParsePrefix("192.0.2.5/24")},
		{Device: "eth0", MAC: "52:54:00:00:00:03"},
		{Bridge: "br1", MAC: own, Ports: []vm.Port{ipv4, ipv6}, Address6: address6},
		{Bridge: "br1", MAC: other, Ports: []vm.Port{ipv6}, Address6: address6},
	}
	got := toBeFound(all)
	if len(got) != 1 || got[0].MAC != own || !slices.Equal(got[0].own, []string{own, other}) || !slices.Equal(got[0].Ports, []vm.Port{ipv4}) {
		t.Errorf("to be found is %+v, want the fourth interface with its port of IPv4", got)
	}
}

// Of two VMs with one address the one that was found there is where the address is now;
// the one that was given it is refused.
func TestWhatIsFoundIsToldFromWhatIsGiven(t *testing.T) {
	ports := []vm.Port{{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 80}}
	given := vm.Interface{Bridge: "br0", MAC: "52:54:00:00:00:01", Address: netip.MustParsePrefix("198.51.100.5/24"), Ports: ports}
	found := vm.Interface{Bridge: "br-lan", MAC: "52:54:00:00:00:02", Ports: ports}
	task := newTask(&drivers.TaskConfig{}, "web", time.Time{}, nil)
	task.published = publicationsOf("web", given, given.Address.Addr())
	task.wantAt(found, netip.MustParseAddr("192.0.2.5"))
	got := map[string]bool{}
	for _, p := range task.publications() {
		got[p.Bridge] = p.Found
	}
	if want := map[string]bool{"br0": false, "br-lan": true}; !maps.Equal(got, want) {
		t.Errorf("found are the addresses on bridges %v, want %v", got, want)
	}
}
