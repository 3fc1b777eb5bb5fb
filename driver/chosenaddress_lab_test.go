//go:build lab

package driver

import (
	"os/exec"
	"strings"
	"testing"
)

func hostCommand(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// newMachineOn makes a bridge that is none of libvirt's, 10.93.0.1, with a machine on
// it, 10.93.0.5.
func newMachineOn(t *testing.T, bridge string) {
	t.Helper()
	for _, line := range []string{
		"ip link add " + bridge + " type bridge",
		"ip address add 10.93.0.1/24 dev " + bridge,
		"ip link set " + bridge + " up",
		"ip netns add chosen",
		"ip link add chosen-a type veth peer name chosen-b",
		"ip link set chosen-b netns chosen",
		"ip -n chosen address add 10.93.0.5/24 dev chosen-b",
		"ip -n chosen link set chosen-b up",
		"ip link set chosen-a master " + bridge + " up",
	} {
		hostCommand(t, line)
	}
	t.Cleanup(func() {
		hostCommand(t, "ip link delete chosen-a")
		hostCommand(t, "ip netns delete chosen")
		hostCommand(t, "ip link delete "+bridge)
	})
}

// Published ports are let in on any bridge: the job is not to choose whose they open.
func TestPortsLeadToNoOtherMachineWhateverAJobSays(t *testing.T) {
	const on = "br-chosen"
	newMachineOn(t, on)
	bare, pools := bareLibvirt(t), map[string]DirectoryPool{"chosen": {Path: t.TempDir()}}
	d := labDriver(t, pools)
	const path = "config.network_interface[0].bridge.address: "
	for i, test := range []struct{ name, address, want string }{
		{"of a machine there", "10.93.0.5/24", path + "10.93.0.5 is another machine's, which answers there with the hardware address"},
		{"of a VM behind NAT", "192.168.122.50/24", path + "published ports would lead to 192.168.122.50, which the host does not reach over bridge " + on},
		{"of another host", "10.99.0.1/24", path + "published ports would lead to 10.99.0.1, which the host does not reach over bridge " + on},
		{"of all machines there", "10.93.0.255/24", path + "published ports would lead to 10.93.0.255, which the host does not reach over bridge " + on},
		{"of the host's there", "10.93.0.1/24", path + "10.93.0.1 is the host's own, on " + on},
		{"of the host's elsewhere", "192.168.122.1/24", path + "192.168.122.1 is the host's own, on virbr0"},
		{"of nobody", "10.93.0.9/24", ""},
	} {
		address, _, _ := strings.Cut(test.address, "/")
		cfg := labTask(t, i, emptyDisk, []NetworkInterface{{Bridge: &Bridge{Name: on, Address: test.address, Ports: []string{"http"}}}})
		_, _, err := d.StartTask(cfg)
		if test.want == "" {
			mustDo(t, err)
			if published := hostCommand(t, "nft list map inet nomad_virt ports"); !strings.Contains(published, ": "+address+" . 8000") {
				t.Errorf("the address %s: no port leads to %s:\n%s", test.name, address, published)
			}
			mustDo(t, d.DestroyTask(cfg.ID, true))
		} else if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("the address %s: the error is %v, want it to say %q", test.name, err, test.want)
		}
		mustKnow(t, bare, vmOf(cfg), false)
		if rules := hostCommand(t, "nft list ruleset"); strings.Contains(rules, address+" . 8000") {
			t.Errorf("the address %s: a port leads to %s still:\n%s", test.name, address, rules)
		}
	}
	if left := filesOf(t, pools["chosen"].Path, ""); len(left) != 0 {
		t.Errorf("in the pool is left %q", left)
	}
}
