//go:build lab

package driver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/hypervisor/hypervisortest"
	"nomad-driver-virt/vm"
)

// withoutQEMU is libvirt with its driver for tests, whose VMs are none. What that
// driver does not have is added: it tells nothing of domains' capabilities, and its
// volumes are no files.
type withoutQEMU struct{ *hypervisor.Host }

func (withoutQEMU) Facts(context.Context, string, string) (hypervisor.Facts, error) {
	return hypervisor.Facts{Arch: "i686", Accel: "test", Buses: []string{"scsi", "virtio"}}, nil
}

func (withoutQEMU) Guests(context.Context) ([]hypervisor.GuestArch, error) {
	return []hypervisor.GuestArch{{Guest: domxml.Guest{Arch: "i686"}, Accel: "test"}}, nil
}

func (h withoutQEMU) CreateVolume(ctx context.Context, v vm.Volume, base *vm.Volume) error {
	if err := h.Host.CreateVolume(ctx, v, base); err != nil {
		return err
	}
	return errors.Join(os.WriteFile(v.Path, nil, 0o600), os.Truncate(v.Path, int64(v.Size)))
}

func (h withoutQEMU) RemoveVolume(ctx context.Context, v vm.Volume) error {
	return errors.Join(h.Host.RemoveVolume(ctx, v), os.RemoveAll(v.Path))
}

// emptyDisk is a disk without an image.
var emptyDisk = Disk{Size: "1MiB"}

// driverWithoutQEMU is a driver on libvirt's driver for tests, and the relay
// between the two. All is forgotten when their connection ends.
func driverWithoutQEMU(t testing.TB) (*Driver, *hypervisortest.Relay) {
	t.Helper()
	relay := hypervisortest.NewRelay(t, "/run/libvirt/libvirt-sock")
	d := New(t.Context(), "lab", hclog.NewNullLogger())
	d.around = around{
		libvirt: func(Libvirt) (libvirtHost, error) {
			h, err := hypervisor.New(relay.URI())
			return withoutQEMU{h}, err
		},
		ports:    &notedPorts{},
		shares:   &notedShares{},
		consoles: &notedConsoles{},
		links:    func() ([]bridge.Link, error) { return []bridge.Link{{Name: "virbr0", IsBridge: true}}, nil },
		rejoin:   func(string, string) (bool, error) { return false, nil },
		runtime:  t.TempDir(),
		watch:    func(context.Context) <-chan struct{} { return nil },
		stopping: func(context.Context) bool { return false },
	}
	config := Config{StoragePools: &StoragePools{Default: "pool", Directory: map[string]DirectoryPool{"pool": {Path: t.TempDir()}}}}
	var encoded []byte
	mustDo(t, base.MsgPackEncode(&encoded, &config))
	mustDo(t, d.SetConfig(&base.Config{PluginConfig: encoded}))
	_, m := d.connected()
	for ctx := deadline(t); ; { // a test before this one may have had libvirt restart
		changed := m.host.Changed()
		err := m.host.Health(ctx)
		if err == nil {
			return d, relay
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// numbered is the i-th of tasks that are alike but for their names: a start looks
// at all VMs of a task's name.
func numbered(cfg *drivers.TaskConfig, i int) *drivers.TaskConfig {
	next := cfg.Copy()
	next.Name = fmt.Sprintf("lab%d", i)
	next.AllocID = fmt.Sprintf("alloc-%d", i)
	next.ID = fmt.Sprintf("%s/%s/%08x", next.AllocID, next.Name, i)
	return next
}
