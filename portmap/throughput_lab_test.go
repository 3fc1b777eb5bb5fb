//go:build lab

package portmap

import (
	"context"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// The rules of a published port cost its packets next to nothing: what another host
// gets through the port is compared with what it gets from the guest's own address,
// in turns. A namespace is in the guest's place: a VM without KVM would be what is
// measured. libvirt's rules are those of a network in mode open, or the guest's own
// address would answer nobody.
func BenchmarkThroughput(b *testing.B) {
	pour(b, "one", "tcp4")
	pour(b, "one", "tcp6")
	forward := must(b, "iptables -S FORWARD | sed -n 's/^-A/iptables -A/p'; ip6tables -S FORWARD | sed -n 's/^-A/ip6tables -A/p'")
	must(b, "iptables -F FORWARD; ip6tables -F FORWARD")
	b.Cleanup(func() { must(b, forward) })

	table := New()
	ipv4, ipv6 := publication("web", "one", "10.99.0.2:20000"), publication("web", "one", "[fd99::2]:20000")
	ipv4.Ports[0].Guest, ipv6.Ports[0].Guest = 7000, 7000
	_, err := table.Publish(b.Context(), "web", []vm.Publication{ipv4, ipv6}, nobody)
	mustDo(b, err)
	b.Cleanup(func() { mustDo(b, table.Withdraw(context.Background(), "web")) })

	for _, c := range []struct{ name, port, guest string }{
		{"IPv4", "10.99.0.2:20000", "192.168.122.51:7000"},
		{"IPv6", "[fd99::2]:20000", "[fd42::51]:7000"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var ratios, rates []float64
			for b.Loop() {
				// One after the other and back, so that neither has the quieter time.
				guest := drink(b, "far", c.guest)
				port := drink(b, "far", c.port) + drink(b, "far", c.port)
				guest += drink(b, "far", c.guest)
				ratios, rates = append(ratios, port/guest), append(rates, port/2)
			}
			b.ReportMetric(median(ratios), "ratio")
			b.ReportMetric(median(rates)/1e6, "MB/s")
		})
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// pour sends every client as much as it takes.
func pour(t testing.TB, ns, version string) {
	t.Helper()
	var listener net.Listener
	mustDo(t, within(ns, func() (err error) {
		listener, err = net.Listen(version, ":7000")
		return err
	}))
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for chunk := make([]byte, 1<<20); err == nil; {
					_, err = conn.Write(chunk)
				}
			}()
		}
	}()
}

// drink tells how many bytes a second come from a server, for a while.
func drink(b *testing.B, from, at string) float64 {
	b.Helper()
	const while = 250 * time.Millisecond
	var rate float64
	mustDo(b, within(from, func() error {
		conn, err := net.DialTimeout("tcp", at, soon)
		if err != nil {
			return err
		}
		defer conn.Close()
		start := time.Now()
		if err := conn.SetReadDeadline(start.Add(while)); err != nil {
			return err
		}
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn}, make([]byte, 1<<20)) // until the deadline
		rate = float64(n) / time.Since(start).Seconds()
		return nil
	}))
	return rate
}
