//go:build e2e

package e2e

import (
	"net"
	"strings"
	"testing"
)

// isolatedNetwork is one of libvirt's that leads nowhere: its guests have no way to
// whoever is not on it.
const isolatedNetwork = `<network>
  <name>isolated</name>
  <bridge name='virbr-iso'/>
  <ip address='192.168.151.1' netmask='255.255.255.0'>
    <dhcp><range start='192.168.151.100' end='192.168.151.199'/></dhcp>
  </ip>
</network>`

func TestPortsOfAnIsolatedNetworkAnswer(t *testing.T) {
	startNetwork(t, "isolated", isolatedNetwork)
	g := guest{Name: "isolated", Cmds: tellWhoAsks}
	j := submit(t, g.Name, strings.Replace(g.hcl(t), `name  = "virbr0"`, `name = "virbr-iso"`, 1))
	host, port := j.waitRunning().hostPort(t, "http")
	const bridge = "192.168.151.1"
	page, udp := "http://"+net.JoinHostPort(host, port)+"/cgi-bin/who", askUDP(host, port)
	mustTell(t, "the host, "+page, bridge, func() (string, error) { return get(page) })
	mustTell(t, "the host by UDP, "+page, bridge, func() (string, error) { return try("bash", "-c", udp) })
	mustTell(t, "another host, "+page, bridge, func() (string, error) { return try(lab, "far", "curl", "-sf", "--max-time", "5", page) })
	mustTell(t, "another host by UDP, "+page, bridge, func() (string, error) { return try(lab, "far", "bash", "-c", udp) })
	j.purge()
	nothingLeft(t)
}
