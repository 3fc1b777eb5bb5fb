package portmap

import (
	"errors"
	"net/netip"
	"testing"

	"nomad-driver-virt/doctest"
	"nomad-driver-virt/vm"
)

func TestMessagesOfPorts(t *testing.T) {
	var all []doctest.Message
	add := func(err error, why string) {
		t.Helper()
		if err == nil {
			t.Fatalf("there is no error: %s", why)
		}
		all = append(all, doctest.Message{Said: err.Error(), Why: why})
	}
	own := mustPublish(t, vm.Publication{
		VM: "late-00000002", Bridge: "virbr0", Guest: netip.MustParseAddr("192.168.122.51"),
		Ports: []vm.Port{{Label: "www", Host: netip.MustParseAddrPort("10.99.0.2:8080"), Guest: 80}},
	})
	add(mustPublish(t, webPorts()).conflict("late-00000002", own),
		"`nft list table inet nomad_virt` has what is published. A VM of a task that is gone goes within `remove_orphans_after`.")
	add(mustPublish(t, dbPort()).crowded("late-00000002", placesGiven([]vm.Publication{dbPort()})),
		"Two allocations of a group whose `count` is above 1, or two jobs, have one `bridge.address`.")
	add(published{}.served(own, func(port) bool { return true }),
		"`ss -ltunp` tells which process. The port would be taken from it: each port is published for TCP and for UDP. "+
			"[`reserved_ports`](https://developer.hashicorp.com/nomad/docs/configuration/client#reserved_ports) is of the client's `reserved` block, and of `host_network`.")
	twice := webPorts()
	twice.Ports[0].Host = twice.Ports[1].Host
	_, err := publishedBy(twice)
	add(err, "")
	add(lockedError{"iptables", errors.New("…")}, "iptables' own lock. What holds it for so long is a program that hangs, as a rule.")
	t.Setenv("PATH", t.TempDir())
	add(publish(t, New(), webPorts()), "Debian has it in `nftables`. The rule for libvirt's own firewall takes `iptables`.")
	doctest.Page(t, "../docs/messages.md", *update, doctest.Section{Name: "messages of ports", Text: doctest.Messages(all)})
}
