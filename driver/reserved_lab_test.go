//go:build lab

package driver

import (
	"os/exec"
	"strings"
	"testing"
)

// An administrator may have an address be reserved from the network's next start on,
// as virsh net-edit does.
func TestAddressThatSomebodyHasReservedStaysSo(t *testing.T) {
	const (
		mac, address = "52:54:00:77:02:01", "192.168.122.211"
		update       = "virsh net-update default %s ip-dhcp-host \"<host mac='" + mac + "' ip='" + address + "'/>\" "
		isReserved   = "<host mac='" + mac + "' ip='" + address + "'/>"
	)
	for _, test := range []struct {
		name  string
		where string // of --live and --config
	}{
		{"now, and from the next start on", "--live --config"},
		{"from the next start on", "--config"},
		{"now", "--live"},
	} {
		t.Run(test.name, func(t *testing.T) {
			hostCommand(t, strings.Replace(update, "%s", "add", 1)+test.where)
			t.Cleanup(func() {
				for _, where := range []string{"--live", "--config"} { // wherever it is
					_ = exec.Command("sh", "-c", strings.Replace(update, "%s", "delete", 1)+where).Run()
				}
			})
			pools := map[string]DirectoryPool{"reserved": {Path: t.TempDir()}}
			cfg := labTask(t, 1, emptyDisk, []NetworkInterface{{MAC: mac, Bridge: &Bridge{Name: "virbr0"}}})
			handle, network, err := labDriver(t, pools).StartTask(cfg)
			mustDo(t, err)
			if network == nil || network.IP != address {
				t.Errorf("the address is %v, want the one that is reserved, %s", network, address)
			}
			next := labDriver(t, pools) // it has what the domain tells
			mustDo(t, next.RecoverTask(handle))
			mustDo(t, next.DestroyTask(cfg.ID, true))
			for flag, which := range map[string]string{"--live": "", "--config": " --inactive"} {
				if !strings.Contains(test.where, flag) {
					continue
				}
				if got := hostCommand(t, "virsh net-dumpxml default"+which); !strings.Contains(got, isReserved) {
					t.Errorf("what somebody had reserved (%s) is gone with the VM:\n%s", flag, got)
				}
			}
		})
	}
}
