//go:build lab

package portmap

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// What libvirt's nftables back end does for a NAT network: its chains once, and
// the rules of the network, each of them at the head, whenever that starts.
const (
	libvirtChains = `
		add table ip libvirt_network
		add chain ip libvirt_network forward { type filter hook forward priority 0; policy accept; }
		add chain ip libvirt_network guest_output
		add chain ip libvirt_network guest_input
		add chain ip libvirt_network guest_cross
		insert rule ip libvirt_network forward counter jump guest_output
		insert rule ip libvirt_network forward counter jump guest_input
		insert rule ip libvirt_network forward counter jump guest_cross
	`
	libvirtNetwork = `
		flush chain ip libvirt_network guest_output
		flush chain ip libvirt_network guest_input
		flush chain ip libvirt_network guest_cross
		insert rule ip libvirt_network guest_output iif virbr0 counter reject
		insert rule ip libvirt_network guest_input oif virbr0 counter reject
		insert rule ip libvirt_network guest_cross iif virbr0 oif virbr0 counter accept
		insert rule ip libvirt_network guest_output ip saddr 192.168.122.0/24 iif virbr0 counter accept
		insert rule ip libvirt_network guest_input oif virbr0 ip daddr 192.168.122.0/24 ct state related,established counter accept
	`
	libvirtAnew = "delete table ip libvirt_network\n" + libvirtChains + libvirtNetwork
)

// withLibvirtsNftables has libvirt's nftables back end beside the other one, or,
// as alone, in its place, for the time of a test.
func withLibvirtsNftables(t *testing.T, alone bool) {
	t.Helper()
	nft(t, libvirtChains+libvirtNetwork)
	t.Cleanup(func() { must(t, "nft delete table ip libvirt_network") })
	if !alone {
		return
	}
	forward := must(t, "iptables -S FORWARD | sed -n 's/^-A/iptables -A/p'")
	must(t, "iptables -F FORWARD")
	t.Cleanup(func() { must(t, forward) })
}

func nft(t *testing.T, text string) {
	t.Helper()
	must(t, "nft -f - <<'X'\n"+text+"\nX\n")
}

func TestPortsAreLetInByBothOfLibvirtsBackEnds(t *testing.T) {
	for name, alone := range map[string]bool{"nftables": true, "both": false} {
		t.Run(name, func(t *testing.T) {
			withLibvirtsNftables(t, alone)
			table := newTable(t, "web")
			mustRefuse(t, "far", "192.168.122.51:8000")
			mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000", "127.0.0.1:20000")))
			mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
			mustAnswer(t, "", "10.99.0.2:20000", "one 10.99.0.2")
			mustAnswer(t, "", "127.0.0.1:20000", "one 192.168.122.1")
			mustAnswer(t, "two", "10.99.0.2:20000", "one 192.168.122.1")

			nft(t, `table ip somebody {
				chain prerouting {
					type nat hook prerouting priority dstnat + 1; # after ours
					ip daddr 10.99.0.2 meta l4proto { tcp, udp } th dport 20007 dnat to 192.168.122.51:8000
				}
			}`)
			defer must(t, "nft delete table ip somebody")
			mustRefuse(t, "far", "192.168.122.51:8000") // the guest itself
			mustRefuse(t, "far", "10.99.0.2:20007")     // what somebody else translates
		})
	}
}

func TestPortsStayWhileLibvirtRestartsANetwork(t *testing.T) {
	withLibvirtsNftables(t, true)
	table := newTable(t, "web")
	p := publication("web", "one", "10.99.0.2:20000")
	mustDo(t, publish(t, table, p))
	restore(t, table, p)

	nft(t, libvirtNetwork)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1") // with nobody to look after it

	for what, harm := range map[string]string{
		"the table is made anew": libvirtAnew,
		"the chain is flushed":   "flush chain ip libvirt_network forward\ninsert rule ip libvirt_network forward jump guest_input",
		"rules come before ours": "insert rule ip libvirt_network forward jump guest_input",
	} {
		nft(t, harm)
		mustRefuse(t, "far", "10.99.0.2:20000")
		restore(t, table, p)
		mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
		before := must(t, "nft -s -a list table ip libvirt_network")
		restore(t, table, p)
		if after := must(t, "nft -s -a list table ip libvirt_network"); after != before {
			t.Errorf("%s: rules were written though all was as it should be:\n%s\n%s", what, before, after)
		}
	}
	nft(t, libvirtAnew) // the test's own harm
}

// Where libvirt uses nftables nobody needs iptables.
func TestHostWithoutIptables(t *testing.T) {
	withLibvirtsNftables(t, true)
	table := newTable(t, "web")
	path, err := exec.LookPath("nft")
	mustDo(t, err)
	dir := t.TempDir()
	mustDo(t, os.Symlink(path, filepath.Join(dir, "nft")))
	usual := os.Getenv("PATH")
	t.Setenv("PATH", dir)
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000")))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustDo(t, table.Withdraw(t.Context(), "web"))
	t.Setenv("PATH", usual)
	mustRefuse(t, "far", "10.99.0.2:20000")
}

// A network in mode open has no rules of libvirt's.
func TestNothingIsLetInWhereNothingRefuses(t *testing.T) {
	forward := must(t, "iptables -S FORWARD | sed -n 's/^-A/iptables -A/p'")
	must(t, "iptables -F FORWARD")
	t.Cleanup(func() { must(t, forward) })
	table := newTable(t, "web")
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000")))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	if rules := must(t, "iptables -S FORWARD"); strings.Contains(rules, comment) {
		t.Errorf("there is a rule that lets in what nothing refuses:\n%s", rules)
	}
}

// Another back end can be switched to while ports are published.
func TestLibvirtsNextBackEndIsFound(t *testing.T) {
	table := newTable(t, "web")
	p := publication("web", "one", "10.99.0.2:20000")
	mustDo(t, publish(t, table, p))
	changes := Watch(t.Context())
	withLibvirtsNftables(t, true)
	mustRefuse(t, "far", "10.99.0.2:20000")
	select {
	case <-changes:
	case <-time.After(10 * time.Second):
		t.Fatal("the kernel tells nothing of libvirt's new rules")
	}
	restore(t, table, p)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	if rules := must(t, "iptables -S FORWARD"); strings.Contains(rules, comment) {
		t.Errorf("the rule for the back end before is left:\n%s", rules)
	}
}

// As docs/networking.md tells administrators to restrict a port, and to let ports through.
func TestRulesOfAnAdministrators(t *testing.T) {
	page, err := os.ReadFile("../docs/networking.md")
	mustDo(t, err)
	_, restricted, _ := strings.Cut(string(page), "```\ntable inet restricted")
	restricted, _, isThere := strings.Cut(restricted, "```")
	const accept = "ct mark & 0x80 != 0 accept"
	if !isThere || !strings.Contains(string(page), "`"+accept+"`") {
		t.Fatal("the page has no such rules any more")
	}
	table := newTable(t, "web")
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000")))

	nft(t, "table inet restricted"+restricted)
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "two", "10.99.0.2:20000", "one 192.168.122.1")
	if got, err := ask("wire", "tcp", "10.99.0.2:20000", briefly); !errors.Is(err, errSilent) {
		t.Errorf("who is not to come in is answered %q, %v", got, err)
	}
	must(t, "nft delete table inet restricted")
	mustAnswer(t, "wire", "10.99.0.2:20000", "one 10.98.0.1")

	nft(t, "table inet strict { chain forward { type filter hook forward priority 0; policy drop; }; }")
	mustBeSilent(t, "far", "10.99.0.2:20000")
	must(t, "nft add rule inet strict forward '"+accept+"'")
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	must(t, "nft delete table inet strict")
}

func TestHostThatForwardsNoIPv4IsTold(t *testing.T) {
	const forwarding, advice = "/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward=1"
	table := newTable(t, "web", "inside")
	web, inside := publication("web", "one", "10.99.0.2:20000"), publication("inside", "two", "127.0.0.1:20001")
	must(t, "echo 0 >"+forwarding)
	defer must(t, "echo 1 >"+forwarding)
	mustTell(t, publish(t, table, web), advice)
	mustRefuse(t, "", "10.99.0.2:20000")
	mustDo(t, publish(t, table, inside)) // of which nothing is forwarded
	mustAnswer(t, "", "127.0.0.1:20001", "two 192.168.122.1")
	must(t, "echo 1 >/proc/sys/net/ipv4/conf/uplink/forwarding; echo 1 >/proc/sys/net/ipv4/conf/virbr0/forwarding")
	mustDo(t, publish(t, table, web)) // where devices forward that nobody has told all to
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")

	must(t, "echo 1 >"+forwarding+"; echo 0 >"+forwarding) // of all devices
	restored, err := table.Restore(t.Context(), func() []vm.Publication { return []vm.Publication{web, inside} }, nobody)
	mustTell(t, err, advice)
	if restored != nil {
		t.Errorf("%v were put right, and nothing was wrong with the rules", restored)
	}
	mustAnswer(t, "", "10.99.0.2:20000", "one 10.99.0.2")
	mustAnswer(t, "", "127.0.0.1:20001", "two 192.168.122.1")
}
