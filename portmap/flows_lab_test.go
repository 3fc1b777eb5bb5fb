//go:build lab

package portmap

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// speakers are guests that send from the number that their port has on the host, to
// the peer "far" at its port, and answer there.
func speakers(t *testing.T, peerPort int, guests ...string) (peer net.Conn, say map[string]func()) {
	t.Helper()
	mustDo(t, within("far", func() (err error) {
		from := net.Dialer{LocalAddr: &net.UDPAddr{Port: peerPort}}
		peer, err = from.Dial("udp4", "10.99.0.2:7777")
		return err
	}))
	t.Cleanup(func() { _ = peer.Close() })
	say = make(map[string]func())
	for _, guest := range guests {
		var socket net.PacketConn
		mustDo(t, within(guest, func() (err error) { socket, err = net.ListenPacket("udp4", ":7777"); return err }))
		t.Cleanup(func() { _ = socket.Close() })
		say[guest] = func() {
			_, err := socket.WriteTo([]byte("hello of "+guest), &net.UDPAddr{IP: net.IPv4(10, 99, 0, 1), Port: peerPort})
			mustDo(t, err)
			buf := make([]byte, 100)
			mustDo(t, peer.SetReadDeadline(time.Now().Add(soon)))
			if n, err := peer.Read(buf); err != nil || string(buf[:n]) != "hello of "+guest {
				t.Fatalf("the peer hears %q, %v; want %s", buf[:n], err, guest)
			}
		}
		go func() {
			for buf := make([]byte, 1); ; {
				_, from, err := socket.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = socket.WriteTo([]byte(guest), from)
			}
		}()
	}
	return peer, say
}

// What a guest sends first is masqueraded, and to the number that it is sent from: what
// the peer sends to the port is the reply then.
func TestFlowThatAGuestBeganFollowsThePort(t *testing.T) {
	table := newTable(t, "a", "b")
	a, b := publication("a", "one", "10.99.0.2:7777"), publication("b", "two", "10.99.0.2:7777")
	a.Ports[0].Guest, b.Ports[0].Guest = 7777, 7777
	expect := func(peer net.Conn, want string, wantErr error) {
		t.Helper()
		if got, err := question(peer, soon); got != want || !errors.Is(err, wantErr) {
			t.Errorf("the peer is answered %q, %v; want %q, %v", got, err, want, wantErr)
		}
	}
	t.Run("when it is withdrawn", func(t *testing.T) {
		peer, say := speakers(t, 5555, "one")
		mustDo(t, publish(t, table, a))
		say["one"]()
		expect(peer, "one", nil)
		mustDo(t, table.Withdraw(t.Context(), "a"))
		expect(peer, "", syscall.ECONNREFUSED)
	})
	t.Run("when another VM has it", func(t *testing.T) {
		peer, say := speakers(t, 5556, "one", "two")
		say["one"]()
		mustDo(t, publish(t, table, b))
		expect(peer, "two", nil)
		say["two"]()
		mustDo(t, publish(t, table, b))
		expect(peer, "two", nil)
	})
}

// Somebody takes the ports away, and their VM ends before it is noticed.
func TestFlowsEndToPortsThatOthersTookAway(t *testing.T) {
	for what, end := range map[string]func(table *Table){
		"by its end":    func(table *Table) { mustDo(t, table.Withdraw(t.Context(), "a")) },
		"by the upkeep": func(table *Table) { restore(t, table) },
	} {
		t.Run(what, func(t *testing.T) {
			table := newTable(t)
			mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
			var conn net.Conn
			mustDo(t, within("far", func() (err error) { conn, err = net.Dial("udp4", "10.99.0.2:20000"); return err }))
			defer conn.Close()
			if got, err := question(conn, soon); got != "one 10.99.0.1" {
				t.Fatalf("got %q, %v", got, err)
			}
			must(t, "nft delete table inet nomad_virt")
			end(table)
			if got, err := question(conn, soon); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("got %q, %v; want it refused", got, err)
			}
		})
	}
}

// Connections are translated as they were made, rules or none.
func TestDownloadsOutlastAFlush(t *testing.T) {
	const downloads = 5
	table := newTable(t, "a")
	a := publication("a", "one", "10.99.0.2:20000")
	a.Ports[0].Guest = 7000
	pour(t, "one", "tcp4")
	mustDo(t, publish(t, table, a))
	var all [downloads]net.Conn
	for i := range all {
		mustDo(t, within("far", func() (err error) {
			all[i], err = net.DialTimeout("tcp", "10.99.0.2:20000", soon)
			return err
		}))
		defer all[i].Close()
	}
	for range 5 {
		done := make(chan struct{})
		broken := make(chan error, downloads)
		for _, conn := range all {
			go func() { broken <- download(conn, done) }()
		}
		must(t, "nft delete table inet nomad_virt")
		restore(t, table, a)
		close(done)
		for range all {
			mustDo(t, <-broken)
		}
	}
}

// download reads until done, and then as much as was certainly not on its way before.
func download(conn net.Conn, done <-chan struct{}) error {
	const onItsWay = 16 << 20
	for more, chunk := int64(onItsWay), make([]byte, 1<<16); more > 0; {
		_ = conn.SetReadDeadline(time.Now().Add(2 * soon))
		n, err := io.ReadFull(conn, chunk)
		if err != nil {
			return err
		}
		select {
		case <-done:
			more -= int64(n)
		default:
		}
	}
	return nil
}

func TestFlowsThatCannotBeEndedAreTold(t *testing.T) {
	table := newTable(t, "a", "b")
	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	table.forget = func(flows) error { return errors.New("no conntrack") }
	mustTell(t, publish(t, table, publication("b", "two", "10.99.0.2:20001")), "no conntrack")
	for range 2 {
		mustTell(t, table.Withdraw(t.Context(), "a"), "no conntrack")
	}
	mustRefuse(t, "far", "10.99.0.2:20000")
	table.forget = forgetFlows
}
