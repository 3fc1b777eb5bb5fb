//go:build lab

package portmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"nomad-driver-virt/vm"
)

// network is the lab's: this process is in the host's namespace. "far" is
// another host; "one", "two" and "evil" are guests on the bridge, and "wire" is
// another neighbour of the host. The last two take 127.0.0.1 for the host's
// address: whatever they send there is on the wire.
const network = `
mount -t tmpfs tmpfs /run
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo 0 >/proc/sys/net/ipv6/icmp/ratelimit
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit # each refusal is told
echo 0 >/proc/sys/net/bridge/bridge-nf-call-iptables # as where br_netfilter is not loaded
echo 0 >/proc/sys/net/bridge/bridge-nf-call-ip6tables

ip link add virbr0 type bridge
ip addr add 192.168.122.1/24 dev virbr0
ip addr add fd42::1/64 dev virbr0 nodad
ip link set virbr0 up

neighbour() { # name, its address, the host's address, the host's link
	ip netns add $1
	ip link add $4 type veth peer name eth0 netns $1
	ip link set $4 up
	ip -n $1 addr add $2/24 dev eth0
	ip -n $1 link set eth0 up
	ip -n $1 route add default via $3
	ip -n $1 addr add $5/64 dev eth0 nodad
	ip -n $1 route add default via $6
}
for guest in one:51 two:52 evil:53; do
	neighbour ${guest%:*} 192.168.122.${guest#*:} 192.168.122.1 v-${guest%:*} fd42::${guest#*:} fd42::1
	ip link set v-${guest%:*} master virbr0
done
neighbour far 10.99.0.1 10.99.0.2 uplink fd99::1 fd99::2
ip addr add 10.99.0.2/24 dev uplink
ip addr add fd99::2/64 dev uplink nodad
neighbour wire 10.98.0.1 10.98.0.2 wire fd98::1 fd98::2
ip addr add 10.98.0.2/24 dev wire
ip addr add fd98::2/64 dev wire nodad
for name in evil wire; do
	ip netns exec $name sh -c 'echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet'
done
ip -n evil route add 127.0.0.1/32 via 192.168.122.1 src 192.168.122.53
ip -n wire route add 127.0.0.1/32 via 10.98.0.2 src 10.98.0.1

`

// firewall is what libvirt's iptables back end does for a NAT network, with NAT for
// IPv6, too.
const firewall = `
for chain in FWO FWI FWX; do
	for iptables in iptables ip6tables; do
		$iptables -N LIBVIRT_$chain
		$iptables -I FORWARD -j LIBVIRT_$chain
	done
done
ip6tables -A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
ip6tables -A LIBVIRT_FWI -d fd42::/64 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
ip6tables -A LIBVIRT_FWI -o virbr0 -j REJECT
ip6tables -A LIBVIRT_FWO -s fd42::/64 -i virbr0 -j ACCEPT
ip6tables -A LIBVIRT_FWO -i virbr0 -j REJECT
ip6tables -t nat -A POSTROUTING -s fd42::/64 ! -d fd42::/64 -j MASQUERADE
iptables -A LIBVIRT_FWX -i virbr0 -o virbr0 -j ACCEPT
iptables -A LIBVIRT_FWI -d 192.168.122.0/24 -o virbr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A LIBVIRT_FWI -o virbr0 -j REJECT
iptables -A LIBVIRT_FWO -s 192.168.122.0/24 -i virbr0 -j ACCEPT
iptables -A LIBVIRT_FWO -i virbr0 -j REJECT
iptables -t nat -A POSTROUTING -s 192.168.122.0/24 ! -d 192.168.122.0/24 -j MASQUERADE
`

// TestMain runs the tests once more, in namespaces of their own, so that the
// machine's own network never changes.
func TestMain(m *testing.M) {
	const inside = "PORTMAP_LAB_INSIDE"
	if os.Getenv(inside) == "" {
		os.Exit(runInNamespaces(append(os.Environ(), inside+"=1")))
	}
	if out, err := exec.Command("sh", "-ec", network+firewall).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make the lab's network: %v\n%s", err, out)
		os.Exit(1)
	}
	for _, guest := range []string{"one", "two"} {
		for _, at := range []string{"0.0.0.0:8000", "0.0.0.0:9000", "[::]:8000"} {
			serve(guest, guest, at)
		}
	}
	serve("", "host", "127.0.0.1:5000")
	os.Exit(m.Run())
}

func runInNamespaces(env []string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "enter new namespaces (this needs root): %v\n", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// within calls do in a network namespace; "" is the host's. The thread is not
// given back: it ends with the goroutine.
func within(name string, do func() error) error {
	if name == "" {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromName(name)
		if err == nil {
			defer ns.Close()
			err = netns.Set(ns)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// serve answers every connection and datagram with the server's name and the
// client's address.
func serve(ns, name, at string) {
	version := "4"
	if at[0] == '[' {
		version = "6"
	}
	var listener net.Listener
	var socket net.PacketConn
	err := within(ns, func() (err error) {
		if listener, err = net.Listen("tcp"+version, at); err == nil {
			socket, err = net.ListenPacket("udp"+version, at)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
	answer := func(client net.Addr) []byte {
		return []byte(name + " " + netip.MustParseAddrPort(client.String()).Addr().String())
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			_, _ = conn.Write(answer(conn.RemoteAddr()))
			_ = conn.Close()
		}
	}()
	go func() {
		for buf := make([]byte, 1); ; {
			if _, client, err := socket.ReadFrom(buf); err == nil {
				_, _ = socket.WriteTo(answer(client), client)
			}
		}
	}()
}

var errSilent = errors.New("no answer")

// ask returns what a server answers to a client in a namespace.
func ask(from, proto, to string, patience time.Duration) (string, error) {
	var answer string
	err := within(from, func() error {
		conn, err := net.DialTimeout(proto, to, patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err = question(conn, patience)
		return err
	})
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "", errSilent
	}
	return answer, err
}

// question asks on a connection that is there.
func question(conn net.Conn, patience time.Duration) (string, error) {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if conn.RemoteAddr().Network() == "tcp" {
		b, err := io.ReadAll(conn)
		return string(b), err
	}
	if _, err := conn.Write([]byte("?")); err != nil {
		return "", err
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

const (
	soon    = 5 * time.Second        // an answer that must come
	briefly = 300 * time.Millisecond // one that must not come
)

func mustAnswer(t *testing.T, from, to, want string) {
	t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		if got, err := ask(from, proto, to, soon); err != nil || got != want {
			t.Errorf("%s %s asked from %q: got %q, %v; want %q", proto, to, from, got, err, want)
		}
	}
}

func mustRefuse(t *testing.T, from, to string) {
	t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		if got, err := ask(from, proto, to, soon); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s %s asked from %q: got %q, %v; want it refused", proto, to, from, got, err)
		}
	}
}

func mustBeSilent(t *testing.T, from, to string) {
	t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		if got, err := ask(from, proto, to, briefly); !errors.Is(err, errSilent) {
			t.Errorf("%s %s asked from %q: got %q, %v; want no answer", proto, to, from, got, err)
		}
	}
}

// hostState is everything of the host that this package may change.
func hostState(t *testing.T) string {
	t.Helper()
	return must(t, `nft -s list ruleset 2>/dev/null; iptables -S; iptables -t nat -S; ip6tables -S
		cat /proc/sys/net/ipv4/conf/virbr0/route_localnet`)
}

// must runs a shell script in the host's namespace.
func must(t testing.TB, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// newTable returns a table, and asserts at the end of the test that it leaves
// nothing once the named VMs are withdrawn.
func newTable(t *testing.T, names ...string) *Table {
	t.Helper()
	before, table := hostState(t), New()
	t.Cleanup(func() {
		for _, name := range names {
			if err := table.Withdraw(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
		if after := hostState(t); after != before {
			t.Errorf("the host was\n%s\nand is left as\n%s", before, after)
		}
	})
	return table
}

// publication is of a guest ("one" or "two"), with host addresses that lead to
// its port 8000. It was found there: there are fewer guests than VMs.
func publication(name, guest string, hosts ...string) vm.Publication {
	p := vm.Publication{VM: name, Bridge: "virbr0", Guest: netip.MustParseAddr(guestAddr[guest]), Found: true}
	if len(hosts) > 0 && hosts[0][0] == '[' {
		p.Guest = netip.MustParseAddr(guestAddr6[guest])
	}
	for _, h := range hosts {
		p.Ports = append(p.Ports, vm.Port{Label: "http", Host: netip.MustParseAddrPort(h), Guest: 8000})
	}
	return p
}

var guestAddr6 = map[string]string{"one": "fd42::51", "two": "fd42::52"}

var guestAddr = map[string]string{"one": "192.168.122.51", "two": "192.168.122.52"}

func mustDo(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
