package driver

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"nomad-driver-virt/vm"
)

// A DHCP server that cannot be told keeps nothing of a VM but its lease.
func TestLeaseThatCannotBeGivenBackKeepsNothingElse(t *testing.T) {
	for _, test := range []struct {
		name   string
		breaks func(c *client, d *Driver)
		says   string
	}{
		{"libvirt does not list it", func(c *client, _ *Driver) { c.host.Fail("Leases", errBroken) }, errBroken.Error()},
		{"it is not heard", func(_ *client, d *Driver) {
			d.around.release = func(context.Context, vm.Lease) error { return nil }
		}, "DHCP was told several times, and 192.168.122.2 is leased to 52:54:"},
		{"it cannot be sent", func(_ *client, d *Driver) {
			d.around.release = func(context.Context, vm.Lease) error { return errBroken }
		}, errBroken.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t)
			var log bytes.Buffer
			d := c.driver(New(t.Context(), "0.0.0-test", hclog.New(&hclog.LoggerOptions{Output: &log})))
			test.breaks(c, d)
			mustDo(t, d.SetConfig(c.config(t)))
			cfg := emptyTask(t)
			_, _, err := d.StartTask(cfg)
			mustDo(t, err)
			mustDo(t, d.DestroyTask(cfg.ID, true))
			if left := c.left(t); len(left) != 1 || !strings.HasPrefix(left[0], "lease of ") {
				t.Errorf("on the host is left %q, want the lease alone", left)
			}
			if said := log.String(); !strings.Contains(said, "could not be given back to DHCP") || !strings.Contains(said, test.says) {
				t.Errorf("the log says %q, want %q in it", said, test.says)
			}
		})
	}
}
