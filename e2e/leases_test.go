//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An address is free again as soon as its VM is gone, though DHCP leases it for an hour.
func TestAddressIsFreeWhenItsVMIsGone(t *testing.T) {
	const network, bridge = "e2e-one", "virbr-e2e"
	file := filepath.Join(t.TempDir(), "network.xml")
	document := "<network><name>" + network + "</name><bridge name='" + bridge + "'/><ip address='10.94.1.1' netmask='255.255.255.0'>" +
		"<dhcp><range start='10.94.1.2' end='10.94.1.2'/></dhcp></ip></network>"
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	virsh(t, "net-create", file)
	t.Cleanup(func() { _, _ = try("virsh", "-q", "net-destroy", network) })

	for _, name := range []string{"one", "next"} {
		g := guest{Name: name, KillTimeout: "1s"}
		j := submit(t, name, strings.Replace(g.hcl(t), `"virbr0"`, `"`+bridge+`"`, 1))
		j.waitRunning()
		eventually(t, tinyTimeout, "the guest's lease", func() error {
			if leases := virsh(t, "net-dhcp-leases", network); !strings.Contains(leases, " 10.94.1.2/24 ") {
				return fmt.Errorf("the leases are %q", leases)
			}
			return nil
		})
		j.purge()
		eventually(t, endTimeout, "the end of the lease", func() error {
			if leases := strings.TrimSpace(virsh(t, "net-dhcp-leases", network)); leases != "" {
				return errors.New(leases)
			}
			return nil
		})
	}
	virsh(t, "net-destroy", network)
	nothingLeft(t)
}
