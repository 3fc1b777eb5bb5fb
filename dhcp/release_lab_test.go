//go:build lab

package dhcp

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	network = "dhcp-small"
	bridge  = "virbr-dhcp"
	mac     = "52:54:00:77:03:01"

	small = `<network><name>` + network + `</name><bridge name='` + bridge + `'/>
  <ip address='10.94.0.1' netmask='255.255.255.0'><dhcp><range start='10.94.0.2' end='10.94.0.3'/></dhcp></ip></network>`
)

func run(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

// newNetwork makes a network of libvirt's with two addresses, and a namespace on it that
// stands for a guest.
func newNetwork(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "network.xml")
	if err := os.WriteFile(file, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "virsh -q net-create "+file)
	t.Cleanup(func() { run(t, "virsh -q net-destroy "+network) })
	run(t, "ip netns add guest")
	t.Cleanup(func() { run(t, "ip netns delete guest") })
	run(t, "ip link add to-guest type veth peer name eth0 netns guest address "+mac)
	t.Cleanup(func() { run(t, "ip link delete to-guest") })
	run(t, "ip link set to-guest master "+bridge+" up")
	run(t, "ip -n guest link set eth0 up")
}

// A lease that a guest has asked for, and that is given back when the guest is gone.
func TestLeaseIsGivenBack(t *testing.T) {
	newNetwork(t)
	h, err := hypervisor.New("qemu:///system")
	if err != nil {
		t.Fatal(err)
	}
	go h.Run(t.Context())
	for name, flags := range map[string]string{
		"of a guest that says no name of its own": "-C",
		"of one whose name is its MAC":            "",
		"of one with a name as systemd's":         "-C -x 0x3d:ff12345600020000ab11223344556677",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, "ip netns exec guest busybox udhcpc -i eth0 -f -q -n -t 10 -T 1 -s /bin/true "+flags)
			leases := mustLease(t, h, 1)
			if leases[0].Bridge != bridge || leases[0].Server.String() != "10.94.0.1" || (len(leases[0].ClientID) > 0) == (flags == "-C") {
				t.Errorf("the lease is %+v", leases[0])
			}
			if err := Release(t.Context(), leases[0]); err != nil {
				t.Error(err)
			}
			mustLease(t, h, 0)
		})
	}
}

// mustLease waits until the guest has so many leases.
func mustLease(t *testing.T, h *hypervisor.Host, want int) []vm.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		leases, err := h.Leases(ctx, network, strings.ToUpper(mac))
		if err == nil && len(leases) == want {
			return leases
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("the leases are %+v, %w, want %d", leases, err, want))
		}
	}
}

func TestNobodyIsToldOnABridgeThatIsGone(t *testing.T) {
	of := lease
	of.Bridge = "br-none"
	if err := Release(t.Context(), of); err == nil || !strings.Contains(err.Error(), "bridge br-none: no such device") {
		t.Errorf("the error is %v, want it to name the bridge", err)
	}
}
