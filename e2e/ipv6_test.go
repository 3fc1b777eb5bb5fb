//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// host6 is the lab's own address of IPv6.
const host6 = "fd99::2"

// dualNetwork is a network of libvirt's that has both versions of IP.
const dualNetwork = `<network>
  <name>dual</name>
  <forward mode='nat'/>
  <bridge name='virbr-dual'/>
  <ip address='192.168.150.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.150.100' end='192.168.150.199'/></dhcp>
  </ip>
  <ip family='ipv6' address='fd42::1' prefix='64'/>
</network>`

// startNetwork has libvirt run a network until the test ends.
func startNetwork(t *testing.T, name, document string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".xml")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh(t, "net-create", file)
	t.Cleanup(func() { _, _ = try("virsh", "-c", "qemu:///system", "net-destroy", name) })
}

// tellWhoAsks has the small guest tell who asks, by a page and by a datagram.
var tellWhoAsks = append([]string{
	`mkdir -p /run/www/cgi-bin`,
	`printf '#!/bin/sh\necho Content-Type: text/plain; echo; echo $REMOTE_ADDR\n' > /run/www/cgi-bin/who`,
	`chmod +x /run/www/cgi-bin/who`,
	`/init answer-udp 8000 &`,
}, serveShell...)

// A guest that tells who asks, and another guest that asks.
func dualJob() string {
	task := func(name, cmds, ports string) string {
		return fmt.Sprintf(`
			task %q {
				driver = "virt"
				config {
					cmds = [%s]
					disk {
						chained = true
						source {
							image = "tiny.qcow2"
						}
					}
					network_interface {
						bridge {
							name  = "virbr-dual"
							ports = [%s]
						}
					}
				}
				resources {
					cpu    = 1200
					memory = 256
				}
			}`, name, cmds, ports)
	}
	quoted := func(cmds []string) string {
		var all []string
		for _, c := range cmds {
			all = append(all, fmt.Sprintf("%q", c))
		}
		return strings.Join(all, ", ")
	}
	return `job "dual" {
		group "group" {
			restart {
				attempts = 0
				mode     = "fail"
			}
			network {
				mode = "host"
				port "http" {
					to = 8000
				}
				port "six" {
					to           = 8000
					host_network = "ipv6"
				}
				port "local" {
					to           = 8000
					host_network = "loopback"
				}
				port "client" {
					to = 8000
				}
			}` + task("server", quoted(tellWhoAsks), `"http", "six", "local"`) + task("client", quoted(serveShell), `"client"`) + `
		}
	}`
}

func TestPortsOfBothVersionsOfIP(t *testing.T) {
	startNetwork(t, "dual", dualNetwork)
	j := submit(t, "dual", dualJob())
	a := j.waitRunning()
	client := shell{t, a.url(t, "client", "/cgi-bin/sh")}
	eventually(t, tinyTimeout, "a shell in the client", func() error {
		_, err := client.try("true", askTimeout)
		return err
	})
	const host4 = "10.99.0.2"
	const far4, far6 = "10.99.0.1", "fd99::1"
	const bridge4, bridge6 = "192.168.150.1", "fd42::1"
	_, http := a.hostPort(t, "http")
	chosen, six := a.hostPort(t, "six")
	if chosen != host6 {
		t.Fatalf("Nomad gave port six the address %s, want %s", chosen, host6)
	}
	answers := func() {
		t.Helper()
		for _, c := range []struct{ host, port, far, own, hairpin string }{
			{host4, http, far4, host4, bridge4},
			{host6, http, far6, host6, bridge6},
			{host6, six, far6, host6, bridge6},
		} {
			at := net.JoinHostPort(c.host, c.port)
			page, udp := "http://"+at+"/cgi-bin/who", askUDP(c.host, c.port)
			mustTell(t, "another host, "+page, c.far, func() (string, error) { return try(lab, "far", "curl", "-gsf", "--max-time", "5", page) })
			mustTell(t, "another host by UDP, "+at, c.far, func() (string, error) { return try(lab, "far", "bash", "-c", udp) })
			mustTell(t, "the host, "+page, c.own, func() (string, error) { return get(page) })
			mustTell(t, "the host by UDP, "+at, c.own, func() (string, error) { return try("bash", "-c", udp) })
			mustTell(t, "another guest, "+page, c.hairpin, func() (string, error) { return client.try("wget -q -O - '"+page+"'", askTimeout) })
			mustTell(t, "another guest by UDP, "+at, c.hairpin, func() (string, error) { return client.try("/init ask-udp '"+at+"'", askTimeout) })
		}
	}
	answers()
	host, local := a.hostPort(t, "local")
	page, udp := "http://"+net.JoinHostPort(host, local)+"/cgi-bin/who", askUDP(host, local)
	mustTell(t, "the host on loopback, "+page, bridge4, func() (string, error) { return get(page) })
	mustTell(t, "the host on loopback by UDP, "+page, bridge4, func() (string, error) { return try("bash", "-c", udp) })

	// The next plugin has to know the addresses of IPv6.
	killPlugin(t)
	command(t, "nft", "delete", "table", "inet", "nomad_virt")
	answers()
	j.purge()
	nothingLeft(t)
}

// askTimeout is how long an answer may take.
const askTimeout = 10 * time.Second

// askUDP is a script that asks from a connected socket: it hears the address that it
// has asked, and no other. dd takes a datagram whole, as bash does not.
func askUDP(host, port string) string {
	return fmt.Sprintf(`exec 3<>/dev/udp/%s/%s; echo ? >&3; timeout 5 dd bs=100 count=1 status=none <&3`, host, port)
}

// mustTell waits until the guest tells that it was asked from an address.
func mustTell(t *testing.T, what, want string, ask func() (string, error)) {
	t.Helper()
	eventually(t, tinyTimeout, what, func() error {
		got, err := ask()
		got = strings.Trim(strings.TrimPrefix(strings.Trim(strings.TrimSpace(got), "[]"), "::ffff:"), "[]")
		if err == nil && got != want {
			err = fmt.Errorf("it is asked from %q, want %s", got, want)
		}
		return err
	})
}
