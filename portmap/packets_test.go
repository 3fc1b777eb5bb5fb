//go:build lab

package portmap

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"nomad-driver-virt/vm"
)

func TestPublishedPortAnswersFromEverywhere(t *testing.T) {
	table := newTable(t, "web")
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000", "127.0.0.1:20001")))

	for _, c := range []struct{ what, from, to, want string }{
		{"another host", "far", "10.99.0.2:20000", "one 10.99.0.1"},
		{"the host by its own address", "", "10.99.0.2:20000", "one 10.99.0.2"},
		{"the host by 127.0.0.1", "", "127.0.0.1:20001", "one 192.168.122.1"},
	} {
		t.Run(c.what, func(t *testing.T) { mustAnswer(t, c.from, c.to, c.want) })
	}
}

// With br_netfilter on, a bridged packet goes through the host's rules without
// being routed, and a bridge never sends it back where it came from: a guest
// does not reach itself then.
func TestGuestsReachEachOtherByTheHostsAddress(t *testing.T) {
	const brNetfilter = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	table := newTable(t, "web")
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000")))
	mustAnswer(t, "two", "10.99.0.2:20000", "one 192.168.122.1")
	mustAnswer(t, "one", "10.99.0.2:20000", "one 192.168.122.1")

	must(t, "echo 1 >"+brNetfilter)
	defer must(t, "echo 0 >"+brNetfilter)
	mustAnswer(t, "two", "10.99.0.2:20000", "one 192.168.122.1")
}

func TestWhatIsNotPublishedStaysBlocked(t *testing.T) {
	table := newTable(t, "web")
	mustDo(t, publish(t, table, publication("web", "one", "10.99.0.2:20000")))
	must(t, `nft -f - <<-X
		table ip somebody {
			chain prerouting {
				type nat hook prerouting priority dstnat + 1; # after ours
				ip daddr 10.99.0.2 meta l4proto { tcp, udp } th dport 20007 dnat to 192.168.122.51:8000
			}
		}
	X`)
	defer must(t, "nft delete table ip somebody")

	mustRefuse(t, "far", "10.99.0.2:20009")     // another port
	mustRefuse(t, "", "127.0.0.1:20000")        // another address
	mustRefuse(t, "far", "192.168.122.51:8000") // the guest itself
	mustRefuse(t, "far", "10.99.0.2:20007")     // what somebody else translates
}

func TestLoopbackIsNotReachedOverAWire(t *testing.T) {
	table := newTable(t, "web")
	// The second has libvirt let through what the first is not to translate.
	mustDo(t, publish(t, table, publication("web", "one", "127.0.0.1:20000", "10.99.0.2:20001")))

	mustBeSilent(t, "evil", "127.0.0.1:5000")  // a service of the host's
	mustBeSilent(t, "evil", "127.0.0.1:20000") // the published port
	mustBeSilent(t, "wire", "127.0.0.1:20000")

	// They would answer, were it not for these rules.
	must(t, "nft flush chain inet nomad_virt guard")
	mustAnswer(t, "evil", "127.0.0.1:5000", "host 192.168.122.53")
	must(t, "nft insert rule inet nomad_virt prerouting jump translate")
	mustAnswer(t, "wire", "127.0.0.1:20000", "one 10.98.0.1")
}

func TestRouteLocalnetIsOnWhileABridgeHasLoopbackPorts(t *testing.T) {
	table := newTable(t, "a", "b")
	want := func(value string) {
		t.Helper()
		got := strings.TrimSpace(must(t, "cat /proc/sys/net/ipv4/conf/virbr0/route_localnet"))
		if got != value {
			t.Errorf("route_localnet is %s, want %s", got, value)
		}
	}
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	want("0")
	mustDo(t, publish(t, table, publication("a", "one", "127.0.0.1:20000")))
	mustDo(t, publish(t, table, publication("b", "two", "127.0.0.2:20000")))
	want("1")
	mustDo(t, table.Withdraw(t.Context(), "a"))
	want("1")
	mustDo(t, publish(t, table, publication("b", "two", "10.99.0.2:20000")))
	want("0")
}

func TestTwoVMs(t *testing.T) {
	table := newTable(t, "a", "b")
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	mustDo(t, publish(t, table, publication("b", "two", "10.99.0.2:20001")))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")

	mustDo(t, table.Withdraw(t.Context(), "a"))
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
}

func TestPublishingAgainReplacesWhatAVMPublished(t *testing.T) {
	table := newTable(t, "web")
	first := publication("web", "one", "10.99.0.2:20000", "10.99.0.2:20001")
	mustDo(t, publish(t, table, first))
	once := hostState(t)
	mustDo(t, publish(t, table, first))
	if twice := hostState(t); twice != once {
		t.Errorf("published twice the host is\n%s\nand once\n%s", twice, once)
	}
	mustDo(t, publish(t, table, publication("web", "two", "10.99.0.2:20001", "10.99.0.2:20002")))
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	mustAnswer(t, "far", "10.99.0.2:20002", "two 10.99.0.1")

	mustDo(t, publish(t, table, publication("web", "two"))) // no ports any more
	mustRefuse(t, "far", "10.99.0.2:20002")
}

func TestPortOfAnotherVMIsNotTaken(t *testing.T) {
	table := newTable(t, "a", "b")
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	before := hostState(t)

	for what, other := range map[string]*Table{"this process": table, "the next process": New()} {
		err := publish(t, other, publication("b", "two", "10.99.0.2:20001", "10.99.0.2:20000"))
		if err == nil || !strings.Contains(err.Error(), `published for VM "a" (label "http")`) {
			t.Errorf("%s: error is %v, want one that names the VM and the label", what, err)
		}
		if after := hostState(t); after != before {
			t.Errorf("%s: the refused publication changed the host from\n%s\nto\n%s", what, before, after)
		}
	}
	// The port is free as soon as its VM is gone.
	mustDo(t, table.Withdraw(t.Context(), "a"))
	mustDo(t, publish(t, table, publication("b", "two", "10.99.0.2:20000")))
	mustAnswer(t, "far", "10.99.0.2:20000", "two 10.99.0.1")
}

// Two allocations of a job may be given one address, and none of the guests is up yet.
func TestAddressOfAnotherVMIsRefused(t *testing.T) {
	table := newTable(t, "a", "b")
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	before := hostState(t)
	b := publication("b", "one", "10.99.0.2:20001")
	b.Found = false
	for what, other := range map[string]*Table{"this process": table, "the next process": New()} {
		mustTell(t, publish(t, other, b), `published for VM "a" (label "http"): give each VM an address of its own`)
		if after := hostState(t); after != before {
			t.Errorf("%s: the refused publication changed the host from\n%s\nto\n%s", what, before, after)
		}
	}
	mustDo(t, table.Withdraw(t.Context(), "a"))
	mustDo(t, publish(t, table, b))
	mustAnswer(t, "far", "10.99.0.2:20001", "one 10.99.0.1")

	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000"))) // found where the guest of b was
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	b.Ports = publication("b", "one", "10.99.0.2:20001", "10.99.0.2:20002").Ports
	mustDo(t, publish(t, table, b))
	mustAnswer(t, "far", "10.99.0.2:20002", "one 10.99.0.1")
}

func TestNextProcessWithdrawsByName(t *testing.T) {
	crashed := newTable(t)
	mustDo(t, publish(t, crashed, publication("a", "one", "10.99.0.2:20000", "127.0.0.1:20000")))
	mustDo(t, publish(t, crashed, publication("b", "two", "10.99.0.2:20001")))

	next := New()
	mustDo(t, next.Withdraw(t.Context(), "a"))
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
	mustDo(t, next.Withdraw(t.Context(), "b"))
	mustDo(t, next.Withdraw(t.Context(), "b"))
}

func TestWithdrawFinishesAPublishThatWasCutShort(t *testing.T) {
	newTable(t)
	for _, f := range families {
		mustDo(t, f.open(t.Context()))
		mustDo(t, f.open(t.Context()))
	}
	mustDo(t, New().Withdraw(t.Context(), "web"))
}

func TestFailedPublishIsWithdrawn(t *testing.T) {
	table := newTable(t, "web")
	p := publication("web", "one", "127.0.0.1:20000")
	p.Bridge = "nobridge"
	if err := publish(t, table, p); err == nil || !strings.Contains(err.Error(), `bridge "nobridge"`) {
		t.Errorf("error is %v, want one that names the bridge", err)
	}
}

func TestTableThatOthersRemovedIsMadeAnew(t *testing.T) {
	table := newTable(t, "a", "b")
	a, b := publication("a", "one", "10.99.0.2:20000"), publication("b", "two", "10.99.0.2:20001")
	mustDo(t, publish(t, table, a))
	must(t, "nft delete table inet nomad_virt")
	mustDo(t, publish(t, table, a))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")

	mustDo(t, publish(t, table, b))
	must(t, "nft delete table inet nomad_virt")
	mustDo(t, table.Withdraw(t.Context(), "a"))
	mustDo(t, publish(t, table, b))
	mustAnswer(t, "far", "10.99.0.2:20001", "two 10.99.0.1")
}

// A sender that keeps its socket, as most do that send logs or metrics, must
// find the port when it is published, lose it, and find the next VM there.
func TestUDPFlowsFollowThePort(t *testing.T) {
	table := newTable(t, "a", "b")
	var conn net.Conn
	mustDo(t, within("far", func() (err error) {
		conn, err = net.Dial("udp4", "10.99.0.2:20000")
		return err
	}))
	defer conn.Close()
	expect := func(want string) {
		t.Helper()
		got, err := question(conn, soon)
		if got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	expect("")
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	expect("one 10.99.0.1")
	mustDo(t, table.Withdraw(t.Context(), "a"))
	expect("")
	mustDo(t, publish(t, table, publication("b", "two", "10.99.0.2:20000")))
	expect("two 10.99.0.1")
}

func TestLongestNamesAreReadBack(t *testing.T) {
	name := strings.Repeat("n", 63) + "-5a6e215e"
	newTable(t)
	p := publication(name, "one", "10.99.0.2:20000")
	p.Bridge, p.Ports[0].Label = strings.Repeat("b", 15), strings.Repeat("l", 100)
	mustDo(t, publish(t, New(), p))
	mustDo(t, New().Withdraw(t.Context(), name))
}

func TestTableTellsAPersonWhoseAPortIs(t *testing.T) {
	table := newTable(t, "web-5a6e215e")
	mustDo(t, publish(t, table, publication("web-5a6e215e", "one", "10.99.0.2:20000")))
	want := `10.99.0.2 . tcp . 20000 comment "web-5a6e215e http on virbr0" : 192.168.122.51 . 8000`
	if got := must(t, "nft list table inet nomad_virt"); !strings.Contains(got, want) {
		t.Errorf("the table is listed as\n%s\nwant a line with\n%s", got, want)
	}
}

func TestPublishingAtTheSameTime(t *testing.T) {
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("vm%d", i))
	}
	table := newTable(t, names...)
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			host := fmt.Sprintf("10.99.0.2:%d", 20000+i)
			if err := publish(t, table, publication(name, "one", host)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range names {
		mustAnswer(t, "far", fmt.Sprintf("10.99.0.2:%d", 20000+i), "one 10.99.0.1")
	}
}

// What a port costs does not grow with what is published already.
func BenchmarkPublishAndWithdraw(b *testing.B) {
	for _, published := range []int{0, 1, 2000} {
		b.Run(fmt.Sprintf("published=%d", published), func(b *testing.B) {
			table := New()
			const portsPerVM = 10
			var others []vm.Publication
			for i := 0; i < published; i += portsPerVM {
				p := publication(fmt.Sprintf("other%d", i), "two")
				for j := i; j < min(i+portsPerVM, published); j++ {
					more := publication("", "two", fmt.Sprintf("10.99.0.2:%d", 30000+j))
					p.Ports = append(p.Ports, more.Ports...)
				}
				others = append(others, p)
			}
			for _, p := range others {
				mustDo(b, publish(b, table, p))
			}
			one := publication("one", "one", "10.99.0.2:20000")
			for b.Loop() {
				mustDo(b, publish(b, table, one))
				mustDo(b, table.Withdraw(b.Context(), "one"))
			}
			for _, p := range others {
				mustDo(b, table.Withdraw(b.Context(), p.VM))
			}
		})
	}
}
