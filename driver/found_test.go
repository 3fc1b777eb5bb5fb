package driver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// The address of a guest on a bridge without a libvirt network is found when the
// guest has one, and known to the next plugin.
func TestPortsArePublishedWhenTheAddressIsFound(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Disks:             []Disk{{Size: "1MiB"}},
		NetworkInterfaces: []NetworkInterface{{Bridge: &Bridge{Name: "br-lan", Ports: []string{"http"}}}},
	}))
	events := p.events(t, cfg)
	handle, network, err := p.StartTask(cfg)
	mustDo(t, err)
	if network != nil && network.IP != "" {
		t.Errorf("Nomad is told that the address is %s, which nobody knows yet", network.IP)
	}
	if e := nextEvent(t, events); !strings.Contains(e.Message, "Started VM") {
		t.Errorf("the first event is %q", e.Message)
	}
	if published := c.ports.all(); len(published) != 0 {
		t.Errorf("ports of %q are published at no address", published)
	}

	mac, own := macOf(cfg.AllocID, cfg.Name, 0), netip.MustParseAddr("192.0.2.5")
	c.lan.change(func() { c.lan.owners = map[netip.Addr]string{own: mac} })
	mustDo(t, c.host.Address(vmOf(cfg), map[string][]netip.Addr{mac: {own}}))
	c.changes <- struct{}{}
	isPublished := func() bool { return slices.Contains(c.ports.all(), vmOf(cfg)) }
	eventually(t, "the port is published", isPublished)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "br-lan is 192.0.2.5, as its agent says; its ports are published: http") {
		t.Errorf("the event is %q", e.Message)
	}

	p.kill()
	mustDo(t, c.host.Address(vmOf(cfg), nil)) // the next plugin has it from the note
	mustDo(t, c.ports.remove(vmOf(cfg)))
	p = c.plugin(t)
	mustDo(t, p.RecoverTask(handle))
	events = p.events(t, cfg)
	c.changes <- struct{}{}
	eventually(t, "the port is published again", isPublished)
	if e := nextEvent(t, events); !strings.Contains(e.Message, "published again") {
		t.Errorf("the event is %q", e.Message)
	}
	mustDo(t, p.DestroyTask(cfg.ID, true))
	c.nothingLeft(t)
}
