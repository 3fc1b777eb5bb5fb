//go:build lab

package hypervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

func hostIP(t *testing.T, args string) string {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %s: %v\n%s", args, err, out)
	}
	return string(out)
}

// One VM beside a device for each mode: what libvirt makes is of that mode, and goes with
// the VM.
func TestMacvtapIsOfTheModeThatWasAskedFor(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-macvtap")
	s.Interfaces = nil
	linkOf := func(mac string) string {
		t.Helper()
		for line := range strings.Lines(hostIP(t, "-oneline -details link show type macvtap")) {
			if strings.Contains(line, "link/ether "+mac+" ") {
				return line
			}
		}
		return ""
	}
	addressOf := func(device string) string {
		t.Helper()
		address, err := os.ReadFile("/sys/class/net/" + device + "/address")
		must(t, err)
		return strings.TrimSpace(string(address))
	}
	before := make(map[string]string) // of devices, their own hardware addresses
	for k, mode := range []string{"bridge", "private", "vepa", "passthrough"} {
		device := fmt.Sprintf("hyp-mv%d", k)
		hostIP(t, "link add "+device+" type veth peer name "+device+"-end")
		t.Cleanup(func() { hostIP(t, "link delete "+device) })
		hostIP(t, "link set "+device+" up")
		before[device] = addressOf(device)
		s.Interfaces = append(s.Interfaces, vm.Interface{Device: device, Mode: mode, MAC: fmt.Sprintf("52:54:00:77:04:%02x", k)})
	}
	// Before the devices go: libvirt gives them their addresses back.
	t.Cleanup(func() { must(t, h.Destroy(context.Background(), s.Name)) })
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), s.Name))
	for _, i := range s.Interfaces {
		made := linkOf(i.MAC)
		mode := map[string]string{"passthrough": "passthru"}[i.Mode] // as ip writes it
		if mode == "" {
			mode = i.Mode
		}
		if !strings.Contains(made, "@"+i.Device+":") || !strings.Contains(made, " macvtap mode "+mode+" ") {
			t.Errorf("mode %s beside %s: libvirt has made %q", i.Mode, i.Device, made)
		}
	}
	must(t, h.Destroy(t.Context(), s.Name))
	for _, i := range s.Interfaces {
		if left := linkOf(i.MAC); left != "" {
			t.Errorf("mode %s: the VM has left %s", i.Mode, left)
		}
		if now := addressOf(i.Device); now != before[i.Device] {
			t.Errorf("mode %s: %s has the hardware address %s, want its own, %s", i.Mode, i.Device, now, before[i.Device])
		}
	}
}
