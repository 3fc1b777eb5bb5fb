//go:build lab

package portmap

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func restore(t *testing.T, table *Table, want ...vm.Publication) []string {
	t.Helper()
	restored, err := table.Restore(t.Context(), func() []vm.Publication { return want }, func(string) bool { return false })
	mustDo(t, err)
	return namesOf(restored)
}

func namesOf(restored []Restored) (names []string) {
	for _, r := range restored {
		names = append(names, r.VM)
	}
	slices.Sort(names)
	return names
}

// Of three VMs, the ports of "c" on IPv6 are beside chosen ones: nobody is told of those.
func TestRestoreBringsBackWhatOthersTookAway(t *testing.T) {
	const (
		take = "%s -S FORWARD | sed -n 's/^-A \\(.*published.*\\)/-D \\1/p' | xargs -r %[1]s"
		hide = "%s -D FORWARD -j LIBVIRT_FWI; %[1]s -I FORWARD 1 -j LIBVIRT_FWI"
		lead = "nft delete element inet nomad_virt %[1]s { %[2]s . tcp . 20000 }; " +
			"nft add element inet nomad_virt %[1]s '{ %[2]s . tcp . 20000 comment \"a http on virbr0\" : %[3]s . 8000 }'"
	)
	anew := strings.ReplaceAll("nft -f - <<'X'\ndelete table ip6 libvirt_network\n"+libvirt6+"X\n", "\t", "")
	for name, test := range map[string]struct {
		harm     string
		restored []string
	}{
		"nothing":                     {"true", nil},
		"the table":                   {"nft delete table inet nomad_virt", []string{"a", "b", "c"}},
		"all rules":                   {"nft flush table inet nomad_virt", nil},
		"a chain's rules":             {"nft flush chain inet nomad_virt translate", nil},
		"the ports":                   {"nft flush map inet nomad_virt ports", []string{"a", "b", "c"}},
		"the ports of IPv6":           {"nft flush map inet nomad_virt ports6", []string{"a", "b"}},
		"a port":                      {"nft delete element inet nomad_virt ports { 10.99.0.2 . tcp . 20000 }", []string{"a"}},
		"a port of IPv6":              {"nft delete element inet nomad_virt ports6 { fd99::2 . tcp . 20000 }", []string{"a"}},
		"a port beside":               {"nft delete element inet nomad_virt ports6 { fd99::2 . tcp . 20002 }", nil},
		"where a port leads to":       {fmt.Sprintf(lead, "ports", "10.99.0.2", "192.168.122.52"), []string{"a"}},
		"where one of IPv6 leads to":  {fmt.Sprintf(lead, "ports6", "fd99::2", "fd42::52"), []string{"a"}},
		"the rule in FORWARD":         {fmt.Sprintf(take, "iptables"), nil},
		"the rule in IPv6's FORWARD":  {fmt.Sprintf(take, "ip6tables"), nil},
		"its place in FORWARD":        {fmt.Sprintf(hide, "iptables"), nil},
		"its place in IPv6's FORWARD": {fmt.Sprintf(hide, "ip6tables"), nil},
		"the rule in libvirt's table": {anew, nil},
		"its place in libvirt's":      {"nft insert rule ip6 libvirt_network forward counter jump guest_input", nil},
		"route_localnet":              {"echo 0 > /proc/sys/net/ipv4/conf/virbr0/route_localnet", nil},
	} {
		t.Run(name, func(t *testing.T) {
			nft(t, libvirt6)
			t.Cleanup(func() { must(t, "nft delete table ip6 libvirt_network") })
			table := newTable(t, "a", "b", "c")
			repairAfterwards(t, anew)
			all := slices.Concat(bothChosen("a", "one", "20000"), bothChosen("b", "two", "20001"), dual("c", "two", "20002"))
			all = append(all, publication("b", "two", "127.0.0.1:20001"))
			restore(t, table, all...) // which publishes them, and knows the table as it is
			whole := hostState(t)
			must(t, test.harm)
			if harmed := hostState(t) != whole; harmed == (name == "nothing") {
				t.Errorf("harm was done: %t", harmed)
			}
			if restored := restore(t, table, all...); !slices.Equal(restored, test.restored) {
				t.Errorf("the ports of %v were put right, want %v", restored, test.restored)
			}
			for port, guest := range map[string]string{"20000": "one", "20001": "two", "20002": "two"} {
				mustAnswer(t, "far", "10.99.0.2:"+port, guest+" 10.99.0.1")
				mustAnswer(t, "far", "[fd99::2]:"+port, guest+" fd99::1")
			}
			mustAnswer(t, "", "127.0.0.1:20001", "two 192.168.122.1")
			before := must(t, ruleHandles)
			if restored := restore(t, table, all...); restored != nil {
				t.Errorf("%v were put right a second time", restored)
			}
			if after := must(t, ruleHandles); after != before {
				t.Error("rules were written though all was as it should be")
			}
		})
	}
}

// ruleHandles lists the host's rules by what changes when one is written anew.
const ruleHandles = "nft -j list ruleset | jq -S '[.nftables[] | select(.rule) | .rule.handle]'"

// repairAfterwards puts right what a test has done to libvirt's own rules: in
// FORWARD, and by a script.
func repairAfterwards(t *testing.T, script string) {
	t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		script += program + " -F FORWARD\n" + must(t, program+" -S FORWARD | sed -n 's/^-A/"+program+" -A/p'")
	}
	t.Cleanup(func() { must(t, script) })
}

func TestRestoreIsTheNextProcesss(t *testing.T) {
	table := newTable(t, "a")
	a := publication("a", "one", "10.99.0.2:20000")
	mustDo(t, publish(t, table, a))
	must(t, "nft flush chain inet nomad_virt translate")
	restore(t, New(), a)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
}

func TestRestoreWithdrawsPortsOfVMsThatAreGone(t *testing.T) {
	table := newTable(t, "a", "stays")
	a := publication("a", "one", "10.99.0.2:20000")
	mustDo(t, publish(t, table, a))
	mustDo(t, publish(t, table, publication("stays", "two", "10.99.0.2:20001")))
	mustDo(t, publish(t, table, publication("gone", "two", "10.99.0.2:20002")))
	restored, err := table.Restore(t.Context(),
		func() []vm.Publication { return []vm.Publication{a} },
		func(name string) bool { return name == "gone" })
	mustDo(t, err)
	if !slices.Equal(namesOf(restored), []string{"gone"}) {
		t.Errorf("%v were put right, want the one that is gone", restored)
	}
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	mustRefuse(t, "far", "10.99.0.2:20002")
}

func TestWatchTellsOfChanges(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := Watch(ctx)
	table := newTable(t, "a")
	for name, change := range map[string]func(){
		"a port":       func() { mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000"))) },
		"iptables":     func() { must(t, "iptables -N watched; iptables -X watched") },
		"an interface": func() { must(t, "ip link add watched type bridge; ip link delete watched") },
	} {
		t.Run(name, func(t *testing.T) {
			for deadline := time.After(10 * time.Second); ; {
				change() // it may not listen yet
				select {
				case <-changes:
					return
				case <-time.After(100 * time.Millisecond):
				case <-deadline:
					t.Fatal("nothing was told")
				}
			}
		})
	}
}

// Two tasks of a group may have one label: the port is the first one's as long as
// that is there.
func TestPortIsTakenOverWhenItsHolderIsGone(t *testing.T) {
	table := newTable(t, "a", "b")
	a, b := publication("a", "one", "10.99.0.2:20000"), publication("b", "two", "10.99.0.2:20000", "10.99.0.2:20001")
	mustDo(t, publish(t, table, a))
	held, err := table.Publish(t.Context(), "b", []vm.Publication{b}, func(name string) bool { return name == "a" })
	mustDo(t, err)
	if want := []Held{{"http", "a"}}; !slices.Equal(held, want) {
		t.Errorf("held is %v, want %v", held, want)
	}
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	for what, as := range map[string]*Table{"this process": table, "the next process": New()} {
		if restored := restore(t, as, a, b); restored != nil {
			t.Errorf("%s: %v were put right, and nothing was wrong", what, restored)
		}
	}

	mustDo(t, table.Withdraw(t.Context(), "a"))
	restored, err := table.Restore(t.Context(), func() []vm.Publication { return []vm.Publication{b} }, nobody)
	mustDo(t, err)
	if diff := cmp.Diff([]Restored{{VM: "b", TookOver: true}}, restored); diff != "" {
		t.Errorf("put right were (-want +got):\n%s", diff)
	}
	mustAnswer(t, "far", "10.99.0.2:20000", "two 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
}

func TestPortsOfSeveralBridgesAreOneVMs(t *testing.T) {
	table := newTable(t, "a")
	first, second := publication("a", "one", "10.99.0.2:20000"), publication("a", "two", "10.99.0.2:20001")
	_, err := table.Publish(t.Context(), "a", []vm.Publication{first, second}, nobody)
	mustDo(t, err)
	if restored := restore(t, table, first, second); restored != nil {
		t.Errorf("%v were put right, and nothing was wrong", restored)
	}
	must(t, "nft delete table inet nomad_virt")
	restore(t, table, first, second)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
}

// When all is published anew, the port is still the first one's.
func TestPortStaysItsHoldersWhenAllRulesAreFlushed(t *testing.T) {
	table := newTable(t, "z", "b")
	z, b := publication("z", "one", "10.99.0.2:20000"), publication("b", "two", "10.99.0.2:20000", "10.99.0.2:20001")
	mustDo(t, publish(t, table, z))
	_, err := table.Publish(t.Context(), "b", []vm.Publication{b}, func(string) bool { return true })
	mustDo(t, err)
	for range 3 {
		must(t, "nft delete table inet nomad_virt")
		restored, err := table.Restore(t.Context(), func() []vm.Publication { return []vm.Publication{b, z} }, nobody)
		mustDo(t, err)
		if diff := cmp.Diff([]Restored{{VM: "z"}, {VM: "b"}}, restored); diff != "" {
			t.Errorf("put right were (-want +got):\n%s", diff)
		}
		mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
		mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	}
}

// The next process knows no more of who held the port than what it is told: who comes first.
func TestPortIsTheFirstOnesWhenAllRulesWereFlushedUnseen(t *testing.T) {
	for what, more := range map[string][]string{"nothing else": nil, "another port": {"10.99.0.2:20001"}} {
		t.Run(what, func(t *testing.T) {
			table := newTable(t, "z", "b")
			z := publication("z", "one", "10.99.0.2:20000")
			b := publication("b", "two", append([]string{"10.99.0.2:20000"}, more...)...)
			restored, err := table.Restore(t.Context(), func() []vm.Publication { return []vm.Publication{z, b} }, nobody)
			mustDo(t, err)
			if diff := cmp.Diff([]Restored{{VM: "z"}, {VM: "b", Held: []Held{{"http", "z"}}}}, restored); diff != "" {
				t.Errorf("put right were (-want +got):\n%s", diff)
			}
			mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
			for what, as := range map[string]*Table{"this process": table, "the next process": New()} {
				if restored := restore(t, as, z, b); restored != nil {
					t.Errorf("%s: %v were put right, and nothing was wrong", what, restored)
				}
			}
		})
	}
}

func TestDoorsAreClosedForPortsThatOthersTookAway(t *testing.T) {
	before := hostState(t)
	table := newTable(t)
	mustDo(t, publish(t, table, publication("a", "one", "127.0.0.1:20000")))
	must(t, "nft delete table inet nomad_virt")
	restore(t, table) // and its VM has ended
	if after := hostState(t); after != before {
		t.Errorf("the host was\n%s\nand is left as\n%s", before, after)
	}
}

// The plugin is down when somebody flushes the ruleset, and the guest powers off: the
// next process finds no table, and wants nothing.
func TestDoorsAreClosedByTheRecordOfAVMThatEndedUnseen(t *testing.T) {
	before := hostState(t)
	mustDo(t, publish(t, New(), publication("a", "one", "127.0.0.1:20000")))
	must(t, "nft delete table inet nomad_virt")
	next := New()
	restore(t, next)
	mustDo(t, next.Withdraw(t.Context(), "a"))
	mustDo(t, next.CloseDoors(t.Context(), []string{"virbr0", "gone"}))
	if after := hostState(t); after != before {
		t.Errorf("the host was\n%s\nand is left as\n%s", before, after)
	}
}

func TestDoorThatAnotherVMNeedsStaysOpen(t *testing.T) {
	for what, process := range map[string]func(*Table) *Table{
		"this process":     func(table *Table) *Table { return table },
		"the next process": func(*Table) *Table { return New() },
	} {
		t.Run(what, func(t *testing.T) {
			table := newTable(t, "b")
			mustDo(t, publish(t, table, publication("b", "two", "127.0.0.2:20000")))
			mustDo(t, process(table).CloseDoors(t.Context(), []string{"virbr0"}))
			mustAnswer(t, "", "127.0.0.2:20000", "two 192.168.122.1")
		})
	}
}

func TestPortsOfWhichNothingIsKnownAreLeftAsTheyAre(t *testing.T) {
	table := newTable(t, "a")
	known, unknown := publication("a", "one", "10.99.0.2:20000"), publication("a", "two", "10.99.0.2:20001")
	mustDo(t, publishAll(t, table, known, unknown))
	unknown.AsItIs = true
	for what, as := range map[string]*Table{"this process": table, "the next process": New()} {
		if restored := restore(t, as, known, unknown); restored != nil {
			t.Errorf("%s: %v were put right, and nothing was wrong", what, restored)
		}
		mustDo(t, publishAll(t, as, known, unknown))
		mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	}
	must(t, "nft flush map inet nomad_virt ports")
	restore(t, table, known, unknown)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustRefuse(t, "far", "10.99.0.2:20001")
}
