//go:build lab

package driver

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nomad-driver-virt/portmap"
	"nomad-driver-virt/vm"
)

// startNetworkOf has libvirt run a network, 10.91.0.0/24 on virbr-mode, until the test ends.
func startNetworkOf(t *testing.T, forward string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "network.xml")
	mustDo(t, os.WriteFile(file, []byte("<network><name>mode</name>"+forward+
		"<bridge name='virbr-mode'/><ip address='10.91.0.1' netmask='255.255.255.0'/></network>"), 0o600))
	hostCommand(t, "virsh -q -c qemu:///system net-create "+file)
	t.Cleanup(func() { hostCommand(t, "virsh -q -c qemu:///system net-destroy mode") })
}

// newServerOn has a machine on virbr-mode, 10.91.0.5, serve a page on port 8000. It has a
// way out over the host, or none.
func newServerOn(t *testing.T, hasWayOut bool) {
	t.Helper()
	hostCommand(t, "ip netns add mode")
	t.Cleanup(func() { hostCommand(t, "ip netns delete mode") })
	for _, line := range []string{
		"ip link add mode-a type veth peer name mode-b",
		"ip link set mode-b netns mode",
		"ip -n mode address add 10.91.0.5/24 dev mode-b",
		"ip -n mode link set mode-b up",
		"ip link set mode-a master virbr-mode up",
	} {
		hostCommand(t, line)
	}
	if hasWayOut {
		hostCommand(t, "ip -n mode route add default via 10.91.0.1")
	}
	dir := t.TempDir()
	mustDo(t, os.WriteFile(filepath.Join(dir, "index.html"), []byte("guest"), 0o600))
	server := exec.Command("ip", "netns", "exec", "mode", "busybox", "httpd", "-f", "-p", "8000", "-h", dir)
	mustDo(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
}

// far runs a command on the lab's other host.
func far(args ...string) (string, error) {
	cmd := exec.Command("../lab/lab", append([]string{"far"}, args...)...)
	cmd.Env = append(os.Environ(), "LAB_NAME="+os.Getenv("LAB_INSIDE"))
	out, err := cmd.Output()
	return string(out), err
}

// In each mode of libvirt's networks a published port answers another host, and libvirt
// alone says whether the guest's own port does.
func TestPublishedPortsAnswerInEachModeOfANetwork(t *testing.T) {
	for mode, c := range map[string]struct {
		forward       string
		isolated      bool
		letsOthersAsk bool
	}{
		"nat":      {forward: "<forward mode='nat'/>"},
		"route":    {forward: "<forward mode='route'/>", letsOthersAsk: true},
		"open":     {forward: "<forward mode='open'/>", letsOthersAsk: true},
		"isolated": {isolated: true},
	} {
		t.Run(mode, func(t *testing.T) {
			startNetworkOf(t, c.forward)
			newServerOn(t, !c.isolated)
			_, err := far("ip", "route", "add", "10.91.0.0/24", "via", "10.99.0.2")
			mustDo(t, err)
			t.Cleanup(func() {
				_, err := far("ip", "route", "del", "10.91.0.0/24")
				mustDo(t, err)
			})
			asked := func(url string) error {
				got, err := far("curl", "-sf", "--max-time", "2", url)
				if err == nil && got != "guest" {
					err = fmt.Errorf("it is answered by %q", got)
				}
				return err
			}
			eventually(t, "the guest answers the host", func() bool {
				return exec.Command("curl", "-sf", "--max-time", "2", "-o", "/dev/null", "http://10.91.0.5:8000").Run() == nil
			})
			if asked("http://10.99.0.2:21000") == nil {
				t.Error("the port answers, and is not published yet")
			}

			ports := portmap.New()
			publication := vm.Publication{
				VM: "mode", Bridge: "virbr-mode", Guest: netip.MustParseAddr("10.91.0.5"), Isolated: c.isolated,
				Ports: []vm.Port{{Label: "http", Host: netip.MustParseAddrPort("10.99.0.2:21000"), Guest: 8000}},
			}
			t.Cleanup(func() { mustDo(t, ports.Withdraw(context.Background(), "mode")) })
			_, err = ports.Publish(t.Context(), "mode", []vm.Publication{publication}, func(string) bool { return false })
			mustDo(t, err)
			mustDo(t, asked("http://10.99.0.2:21000"))
			if err := asked("http://10.91.0.5:8000"); (err == nil) != c.letsOthersAsk {
				t.Errorf("the guest's own port answers another host: %v, want that it does: %t", err, c.letsOthersAsk)
			}
			mustDo(t, ports.Withdraw(t.Context(), "mode"))
			if asked("http://10.99.0.2:21000") == nil {
				t.Error("the port answers, and is published no more")
			}
			if rules := hostCommand(t, "nft list ruleset; iptables-save"); strings.Contains(rules, "nomad") {
				t.Errorf("rules are left:\n%s", rules)
			}
		})
	}
}
