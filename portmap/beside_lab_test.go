//go:build lab

package portmap

import (
	"io"
	"net"
	"slices"
	"testing"

	"nomad-driver-virt/vm"
)

const forwarding = "/proc/sys/net/ipv6/conf/all/forwarding"

func TestPortBesideIsGivenUpToAProcessThatComesLater(t *testing.T) {
	table := newTable(t, "a")
	a := dual("a", "one", "20006")
	mustDo(t, publishAll(t, table, a...))
	mustAnswer(t, "far", "[fd99::2]:20006", "one fd99::1")
	serve("", "host", "[fd99::2]:20006")
	if restored := restore(t, table, a...); restored != nil {
		t.Errorf("%v were put right, and nothing was wrong", restored)
	}
	mustAnswer(t, "far", "[fd99::2]:20006", "host fd99::1")
	mustAnswer(t, "far", "10.99.0.2:20006", "one 10.99.0.1")
}

// A server's HTTP/3 is on the port of its HTTPS, and may come after it.
func TestPortBesideIsAProcesssForBothProtocols(t *testing.T) {
	for network, listen := range map[string]func() (io.Closer, error){
		"tcp": func() (io.Closer, error) { return net.Listen("tcp6", "[::]:20007") },
		"udp": func() (io.Closer, error) { return net.ListenPacket("udp6", "[fd99::2]:20007") },
	} {
		t.Run(network, func(t *testing.T) {
			other := map[string]string{"tcp": "udp", "udp": "tcp"}[network]
			table := newTable(t, "a")
			a := dual("a", "one", "20007")
			process, err := listen()
			mustDo(t, err)
			mustDo(t, publishAll(t, table, a...))
			if got, err := ask("far", other, "[fd99::2]:20007", soon); err == nil {
				t.Errorf("%s is answered by %q, while a process has the port by %s", other, got, network)
			}
			mustDo(t, process.Close())
			restore(t, table, a...)
			mustAnswer(t, "far", "[fd99::2]:20007", "one fd99::1")
		})
	}
}

func TestPortBesideIsLeftWhereTheHostForwardsNoIPv6(t *testing.T) {
	table := newTable(t, "a")
	a := dual("a", "one", "20000")
	defer must(t, "echo 1 >"+forwarding)
	for _, forwards := range []string{"0", "1", "0"} {
		must(t, "echo "+forwards+" >"+forwarding)
		if forwards == "0" && len(table.all) == 0 {
			mustDo(t, publishAll(t, table, a...))
		} else if restored := restore(t, table, a...); restored != nil {
			t.Errorf("%v were put right, and nothing was wrong", restored)
		}
		mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
		if forwards == "0" {
			mustRefuse(t, "far", "[fd99::2]:20000")
		} else {
			mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
		}
	}
}

// One port leads to one VM: what it is beside is another's.
func TestPortBesideOneThatAnotherHoldsWaitsWithIt(t *testing.T) {
	table := newTable(t, "a", "b")
	a, b := publication("a", "one", "10.99.0.2:20000"), dual("b", "two", "20000")
	mustDo(t, publish(t, table, a))
	held, err := table.Publish(t.Context(), "b", b, func(string) bool { return true })
	mustDo(t, err)
	if want := []Held{{"http", "a"}}; !slices.Equal(held, want) {
		t.Errorf("held is %v, want %v", held, want)
	}
	mustRefuse(t, "far", "[fd99::2]:20000")
	if restored := restore(t, table, append(b, a)...); restored != nil {
		t.Errorf("%v were put right, and nothing was wrong", restored)
	}
	mustRefuse(t, "far", "[fd99::2]:20000")

	mustDo(t, table.Withdraw(t.Context(), "a"))
	restore(t, table, b...)
	mustAnswer(t, "far", "10.99.0.2:20000", "two 10.99.0.1")
	mustAnswer(t, "far", "[fd99::2]:20000", "two fd99::1")
}

// Two VMs have the same number on two IPv4 addresses of one network device.
func TestPortBesideStaysItsHoldersWhenAllRulesAreFlushed(t *testing.T) {
	table := newTable(t, "b", "z")
	z, b := dual("z", "one", "20000"), dual("b", "two", "20000")
	b[0] = publication("b", "two", "10.98.0.2:20000")
	mustDo(t, publishAll(t, table, z...))
	mustDo(t, publishAll(t, table, b...))
	for range 3 {
		mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
		must(t, "nft delete table inet nomad_virt")
		if restored := restore(t, table, append(b, z...)...); len(restored) != 2 {
			t.Errorf("%v were put right, want both", restored)
		}
	}
	mustDo(t, table.Withdraw(t.Context(), "z"))
	restore(t, table, b...)
	mustAnswer(t, "far", "[fd99::2]:20000", "two fd99::1")
}

// publishAll publishes what nobody else may hold.
func publishAll(t testing.TB, table *Table, all ...vm.Publication) error {
	t.Helper()
	_, err := table.Publish(t.Context(), all[0].VM, all, nobody)
	return err
}
