package portmap

import (
	"net/netip"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

func TestServersAreFoundInTheKernelsLists(t *testing.T) {
	const (
		head      = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
		listens   = "   0: 0200630A:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
		anywhere  = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n"
		anywhere6 = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000\n"
		mapped    = "   0: 0000000000000000FFFF00000200630A:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000\n"
		ended     = "   1: 0200630A:1F90 337AA8C0:1F40 06 00000000:00000000 03:00000F9B 00000000     0        0 0 3\n"
		waits     = "   2: 0200630A:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2\n"
		connected = "   3: 0200630A:1F90 337AA8C0:0035 01 00000000:00000000 00:00000000 00000000     0        0 1 2\n"
		six       = "   4: 000099FD000000000000000002000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000\n"
	)
	for _, c := range []struct {
		list, host, proto string
		want              bool
	}{
		{listens, "10.99.0.2:8080", "tcp", true},
		{listens, "10.99.0.2:8081", "tcp", false},
		{listens, "10.99.0.3:8080", "tcp", false},
		{anywhere, "10.99.0.3:8080", "tcp", true},
		{anywhere6, "10.99.0.3:8080", "tcp", true},
		{anywhere6, "[fd99::2]:8080", "tcp", true},
		{mapped, "10.99.0.2:8080", "tcp", true},
		{ended, "10.99.0.2:8080", "tcp", false},
		{ended + listens, "10.99.0.2:8080", "tcp", true},
		{waits, "10.99.0.2:8080", "udp", true},
		{connected, "10.99.0.2:8080", "udp", false},
		{six, "[fd99::2]:8080", "tcp", true},
		{six, "[fd99::3]:8080", "tcp", false},
		{"nonsense 0200630A 1 0A\n x:y:z 0A 0A 0A\n 00:1F90 0A 0A 0A\n", "10.99.0.2:8080", "tcp", false},
	} {
		if got := listsServer(head+c.list, port{netip.MustParseAddrPort(c.host), c.proto}); got != c.want {
			t.Errorf("%s %s has a server: %t, want %t, of\n%s", c.proto, c.host, got, c.want, c.list)
		}
	}
}

func TestProcessKeepsAChosenPortThatNoVMHas(t *testing.T) {
	chosen := mustPublish(t, webPorts())
	beside := webPorts()
	beside.VM, beside.Ports = "b", []vm.Port{{Label: "http", Host: beside.Ports[0].Host, Guest: 80, Beside: true}}
	const refusal = `10.99.0.2:8080 (label "http") is in use by a process of this host: choose another port, or keep it from jobs by reserved_ports`
	for what, c := range map[string]struct {
		there, own published
		want       string
	}{
		"nobody has it":              {nil, chosen, refusal},
		"it is beside another's":     {mustPublish(t, beside), chosen, refusal},
		"the VM has it already":      {chosen, chosen, ""},
		"it is wanted beside":        {nil, mustPublish(t, beside), ""},
		"nothing is to be published": {chosen, nil, ""},
	} {
		err := c.there.served(c.own, func(k port) bool { return k.Host == beside.Ports[0].Host && k.Proto == "udp" })
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", what, err, c.want)
		}
	}
}
