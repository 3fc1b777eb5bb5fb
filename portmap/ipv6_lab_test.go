//go:build lab

package portmap

import (
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

// What libvirt's nftables back end has for IPv6.
var libvirt6 = strings.NewReplacer("table ip ", "table ip6 ", "chain ip ", "chain ip6 ", "rule ip ", "rule ip6 ",
	"ip saddr 192.168.122.0/24", "ip6 saddr fd42::/64", "ip daddr 192.168.122.0/24", "ip6 daddr fd42::/64").
	Replace(libvirtChains + libvirtNetwork)

func TestPortOfIPv6AnswersFromEverywhere(t *testing.T) {
	for name, libvirts := range map[string]string{"iptables": "", "both": libvirt6} {
		t.Run(name, func(t *testing.T) {
			if libvirts != "" {
				nft(t, libvirts)
				t.Cleanup(func() { must(t, "nft delete table ip6 libvirt_network") })
			}
			table := newTable(t, "web")
			mustRefuse(t, "far", "[fd99::2]:20000")
			mustRefuse(t, "far", "[fd42::51]:8000")
			mustDo(t, publish(t, table, publication("web", "one", "[fd99::2]:20000")))

			mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
			mustAnswer(t, "", "[fd99::2]:20000", "one fd99::2")
			mustAnswer(t, "two", "[fd99::2]:20000", "one fd42::1")
			mustAnswer(t, "one", "[fd99::2]:20000", "one fd42::1")
			mustRefuse(t, "far", "[fd99::2]:20001")
			mustRefuse(t, "far", "[fd42::51]:8000") // the guest itself
			mustRefuse(t, "far", "10.99.0.2:20000")

			mustDo(t, table.Withdraw(t.Context(), "web"))
			mustRefuse(t, "far", "[fd99::2]:20000")
		})
	}
}

// dual are a VM's publications of one port on both of its addresses.
func dual(name, guest, port string) []vm.Publication {
	ipv4, ipv6 := publication(name, guest, "10.99.0.2:"+port), publication(name, guest, "[fd99::2]:"+port)
	ipv6.Ports[0].Beside = true
	return []vm.Publication{ipv4, ipv6}
}

func TestPortsOfBothVersionsAreOneVMs(t *testing.T) {
	table := newTable(t, "web")
	both := dual("web", "one", "20000")
	_, err := table.Publish(t.Context(), "web", both, nobody)
	mustDo(t, err)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
	for what, as := range map[string]*Table{"this process": table, "the next process": New()} {
		if restored := restore(t, as, both...); restored != nil {
			t.Errorf("%s: %v were put right, and nothing was wrong", what, restored)
		}
	}
	must(t, "nft flush ruleset; ip6tables -F FORWARD")
	t.Cleanup(func() { must(t, "nft flush ruleset; "+firewall) })
	restore(t, table, both...)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
}

// What is beside the address that was chosen is left to everybody else.
func TestPortBesideAChosenOneGivesWay(t *testing.T) {
	t.Run("to a VM that comes later", func(t *testing.T) {
		table := newTable(t, "a", "b")
		a, b := dual("a", "one", "20000"), publication("b", "two", "[fd99::2]:20000")
		_, err := table.Publish(t.Context(), "a", a, nobody)
		mustDo(t, err)
		mustDo(t, publish(t, table, b))
		mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
		mustAnswer(t, "far", "[fd99::2]:20000", "two fd99::1")
		if restored := restore(t, table, append(a, b)...); restored != nil {
			t.Errorf("%v were put right, and nothing was wrong", restored)
		}
		mustDo(t, table.Withdraw(t.Context(), "b"))
		if restored := restore(t, table, a...); restored != nil {
			t.Errorf("%v were put right, and nothing was wrong", restored)
		}
		mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
	})
	t.Run("to a VM that was there before", func(t *testing.T) {
		table := newTable(t, "a", "b")
		mustDo(t, publish(t, table, publication("b", "two", "[fd99::2]:20000")))
		held, err := table.Publish(t.Context(), "a", dual("a", "one", "20000"), nobody)
		mustDo(t, err)
		if len(held) > 0 {
			t.Errorf("%v is told to be held: nobody asked for it", held)
		}
		mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
		mustAnswer(t, "far", "[fd99::2]:20000", "two fd99::1")
	})
	t.Run("to a process of the host's", func(t *testing.T) {
		serve("", "host", "[fd99::2]:20005")
		table := newTable(t, "a")
		_, err := table.Publish(t.Context(), "a", dual("a", "one", "20005"), nobody)
		mustDo(t, err)
		mustAnswer(t, "far", "10.99.0.2:20005", "one 10.99.0.1")
		mustAnswer(t, "far", "[fd99::2]:20005", "host fd99::1")
	})
}

func TestHostThatForwardsNoIPv6IsTold(t *testing.T) {
	const advice = "net.ipv6.conf.all.forwarding=1"
	table := newTable(t, "web")
	both := bothChosen("web", "one", "20000")
	must(t, "echo 0 >"+forwarding)
	defer must(t, "echo 1 >"+forwarding)
	mustTell(t, publishAll(t, table, both...), advice)
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustDo(t, publishAll(t, table, dual("web", "one", "20000")...))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")

	must(t, "echo 1 >"+forwarding)
	mustDo(t, publishAll(t, table, both...))
	must(t, "echo 0 >"+forwarding)
	restored, err := table.Restore(t.Context(), func() []vm.Publication { return both }, nobody)
	mustTell(t, err, advice)
	if restored != nil {
		t.Errorf("%v were put right, and nothing was wrong with the rules", restored)
	}
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
}

// What an earlier version published, in a table of IPv4 alone.
const earlier = `table ip nomad_virt {
	map ports {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 10.99.0.2 . tcp . 20000 comment "a http on virbr0" : 192.168.122.51 . 8000,
			     10.99.0.2 . udp . 20000 comment "a http on virbr0" : 192.168.122.51 . 8000,
			     10.99.0.2 . tcp . 20001 comment "b http on virbr0" : 192.168.122.52 . 8000,
			     10.99.0.2 . udp . 20001 comment "b http on virbr0" : 192.168.122.52 . 8000 }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ct mark set ct mark | 0x80
		dnat ip to ip daddr . meta l4proto . th dport map @ports
	}
}`

func TestTableOfAnEarlierVersionIsTakenOver(t *testing.T) {
	for name, change := range map[string]func(table *Table, a, b vm.Publication){
		"by the upkeep": func(table *Table, a, b vm.Publication) {
			if restored := restore(t, table, a, b); restored != nil {
				t.Errorf("%v were put right, and nothing was wrong", restored)
			}
		},
		"by another VM's start": func(table *Table, _, _ vm.Publication) {
			mustDo(t, publish(t, table, publication("c", "one", "10.99.0.2:20002")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "a", "b", "c")
			nft(t, earlier)
			a, b := publication("a", "one", "10.99.0.2:20000"), publication("b", "two", "10.99.0.2:20001")
			change(table, a, b)
			mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
			mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
			if tables := must(t, "nft list tables"); strings.Contains(tables, "table ip nomad_virt") {
				t.Errorf("the table of the earlier version is left:\n%s", tables)
			}
		})
	}
}
