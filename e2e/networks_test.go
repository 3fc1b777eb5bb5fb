//go:build e2e

package e2e

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestSeveralInterfacesOfEveryKind(t *testing.T) {
	// A bridge that is none of libvirt's, and a device to be beside.
	const lan, cable, end = "br-e2e", "e2e0", "e2e1"
	for _, c := range []string{
		"ip link add " + lan + " type bridge",
		"ip address add 10.98.0.1/24 dev " + lan,
		"ip link set " + lan + " up",
		"ip link add " + cable + " type veth peer name " + end,
		"ip link set " + cable + " up",
		"ip link set " + end + " up",
		"ip address add 10.97.0.1/24 dev " + end,
	} {
		command(t, "sh", "-c", c)
	}
	t.Cleanup(func() {
		_, _ = try("ip", "link", "delete", lan)
		_, _ = try("ip", "link", "delete", cable)
	})
	j := guest{Name: "networks", Cmds: append([]string{
		// What is beside a device has what it gives itself.
		"ip address add 10.97.0.9/24 dev $(grep -l 52:54:00:12:34:56 /sys/class/net/*/address | cut -d/ -f5)",
	}, serveShell...), Config: `
			network_interface {
				bridge {
					name    = "` + lan + `"
					address = "10.98.0.9/24"
					ports   = ["lan"]
				}
			}
			network_interface {
				mac = "52:54:00:12:34:56"
				macvtap {
					device = "` + cable + `"
				}
			}`}
	hcl := strings.Replace(j.hcl(t), `port "http" {`, "port \"lan\" {\nto = 8000\n}\nport \"http\" {", 1)
	submitted := submit(t, j.Name, hcl)
	a := submitted.waitRunning()
	s := a.shell(t)
	for _, want := range []string{"inet 192.168.122.", "inet 10.98.0.9/24", "inet 10.97.0.9/24"} {
		if got := s.run("ip -4 address"); !strings.Contains(got, want) {
			t.Errorf("the guest has\n%s\nwant %s", got, want)
		}
	}
	// Both bridges' ports, from elsewhere.
	lanURL := a.url(t, "lan", "/cgi-bin/sh")
	if _, err := (shell{t, lanURL}).try("true", tinyTimeout); err != nil {
		t.Errorf("the port on the second bridge: %v", err)
	}
	if out, err := try(lab, "far", "curl", "-sf", "--max-time", "5", "--data", "hostname", lanURL); err != nil {
		t.Errorf("the port on the second bridge from another host: %v\n%s", err, out)
	}
	// Through the device's other end, which is another machine's for all that it knows.
	eventually(t, endTimeout, "an answer beside "+cable, func() error {
		_, err := try("curl", "-sf", "--max-time", "2", "--data", "true", "http://10.97.0.9:8000/cgi-bin/sh")
		return err
	})
	// The same VM, after a restart of all that serves it.
	killPlugin(t)
	command(t, "nft", "delete", "table", "inet", "nomad_virt")
	eventually(t, 2*backWithin, "both ports", func() error {
		for _, url := range []string{a.url(t, "http", "/cgi-bin/sh"), lanURL} {
			if _, err := try(lab, "far", "curl", "-sf", "--max-time", "2", "--data", "true", url); err != nil {
				return fmt.Errorf("%s: %w", url, err)
			}
		}
		return nil
	})
	submitted.purge()
	nothingLeft(t)
}

func TestAddressThatIsTakenIsRefused(t *testing.T) {
	const mac, lan = "52:54:00:e2:e0:01", "br-e2e"
	leases := virsh(t, "net-dhcp-leases", "default") // of guests of before
	address := ""
	for last := 200; address == "" || strings.Contains(leases, address+"/"); last++ {
		address = fmt.Sprintf("192.168.122.%d", last)
	}
	// starts submits a job with an interface of its own.
	starts := func(name, beside, on, address string) *job {
		t.Helper()
		g := guest{Name: name, Image: "none", KillTimeout: "1s", Task: name}
		if address != "" {
			address = fmt.Sprintf("\naddress = \"%s/24\"", address)
		}
		return submit(t, name, strings.Replace(g.hcl(t), "bridge {\n            name  = \"virbr0\"", beside+"bridge {\nname = \""+on+"\""+address, 1))
	}
	j := starts("first", "mac = \""+mac+"\"\n", "virbr0", address)
	j.waitRunning()
	if reserved := matching(virsh(t, "net-dumpxml", "default"), address+"'"); reserved == "" {
		t.Error("the address is not reserved: DHCP may give it to another")
	}
	first := vmOf(t, "first")
	for _, c := range []string{"link add " + lan + " type bridge", "address add 10.98.0.1/24 dev " + lan, "link set " + lan + " up"} {
		command(t, "ip", strings.Fields(c)...)
	}
	t.Cleanup(func() { _, _ = try("ip", "link", "delete", lan) })
	for _, test := range []struct{ name, beside, on, address, why string }{
		{"second", "", "virbr0", address, address + " is reserved for another machine"},
		{"elsewhere", "", lan, address, "published ports would lead to " + address + ", which the host does not reach over bridge " + lan},
		{"twin", "mac = \"" + mac + "\"\n", "virbr0", "", mac + " is VM " + first + "'s on this host"},
	} {
		k := starts(test.name, test.beside, test.on, test.address)
		if a := k.waitFailed(); !a.tells(test.why) {
			t.Errorf("%s: the events do not say %q:\n%s", test.name, test.why, a.events())
		}
		k.purge()
	}
	j.purge()
	nothingLeft(t)
}

// serveDHCP has a bridge that is none of libvirt's give out addresses, as somebody's
// router does, until the test ends.
func serveDHCP(t *testing.T, bridge, host, first, last string) {
	t.Helper()
	for _, c := range []string{
		"link add " + bridge + " type bridge",
		"address add " + host + "/24 dev " + bridge,
		"link set " + bridge + " up",
	} {
		command(t, "ip", strings.Fields(c)...)
	}
	t.Cleanup(func() { _, _ = try("ip", "link", "delete", bridge) })
	server := exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface="+bridge,
		"--bind-interfaces", "--except-interface=lo", "--leasefile-ro", "--pid-file=", "--dhcp-range="+first+","+last)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
}

func TestAddressOnABridgeOfOthersIsFound(t *testing.T) {
	const lan = "br-e2e"
	serveDHCP(t, lan, "10.98.0.1", "10.98.0.50", "10.98.0.99")
	g := guest{Name: "found", Cmds: serveShell}
	j := submit(t, g.Name, strings.Replace(g.hcl(t), `name  = "virbr0"`, `name = "`+lan+`"`, 1))
	a := j.waitRunning()
	j.waitEvent(tinyTimeout, "The guest's address on bridge "+lan+" is 10.98.0.", "as ARP says; published for it: http")
	url := a.url(t, "http", "/cgi-bin/sh")
	answers := func(after string) {
		t.Helper()
		eventually(t, 2*backWithin, "the port after "+after, func() error {
			_, err := try(lab, "far", "curl", "-sf", "--max-time", "2", "--data", "true", url)
			return err
		})
	}
	answers("its address was found")
	killPlugin(t)
	command(t, "nft", "delete", "table", "inet", "nomad_virt")
	answers("the plugin was killed")
	j.purge()
	nothingLeft(t)
}

// Twelve that start at once have twelve addresses, each with a port that leads there.
func TestVMsThatStartTogetherHaveAddressesOfTheirOwn(t *testing.T) {
	const many = 12
	j := guest{
		Name: "many", Image: "none", Memory: 32, CPU: 100, KillTimeout: "1s", Group: fmt.Sprintf("count = %d", many),
	}.submit(t)
	addresses := make(map[string]string) // by the allocation that has it
	eventually(t, 2*startTimeout, "all of them run", func() error {
		clear(addresses)
		for _, a := range j.allocations() {
			_, told, is := strings.Cut(a.events(), "its address is ")
			if a.ClientStatus != "running" || !is {
				continue
			}
			address := strings.Fields(told)[0]
			if other, taken := addresses[address]; taken {
				t.Fatalf("%s and %s both have address %s", other, a.ID, address)
			}
			addresses[address] = a.ID
		}
		if len(addresses) < many {
			return fmt.Errorf("%d run", len(addresses))
		}
		return nil
	})
	reserved := virsh(t, "net-dumpxml", "default")
	published := command(t, "nft", "list", "map", "inet", "nomad_virt", "ports")
	for address, alloc := range addresses {
		if strings.Count(reserved, " ip='"+address+"'") != 1 { // a range's first and last are written there too
			t.Errorf("address %s of %s is not reserved once:\n%s", address, alloc, reserved)
		}
		if !strings.Contains(published, ": "+address+" . 8000") {
			t.Errorf("no port leads to %s of %s:\n%s", address, alloc, published)
		}
	}
	j.purge()
	nothingLeft(t)
}
