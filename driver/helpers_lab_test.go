//go:build lab

package driver

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// labDriver is a driver with some pools, which are undefined when the test ends
// but for the lab's own.
func labDriver(t testing.TB, pools map[string]DirectoryPool, images ...string) *Driver {
	t.Helper()
	config := Config{
		ImagePaths:   append(images, "/var/lib/virt/images"),
		StoragePools: &StoragePools{Directory: pools, Default: slices.Sorted(maps.Keys(pools))[0]},
	}
	d := New(t.Context(), "lab", hclog.NewNullLogger())
	var encoded []byte
	if err := base.MsgPackEncode(&encoded, &config); err != nil {
		t.Fatal(err)
	}
	if err := d.SetConfig(&base.Config{PluginConfig: encoded}); err != nil {
		t.Fatal(err)
	}
	bare := bareLibvirt(t)
	t.Cleanup(func() {
		for name := range pools {
			if name == "local" {
				continue
			}
			pool, err := bare.StoragePoolLookupByName(name)
			var said libvirt.Error
			if errors.As(err, &said) && said.Code == uint32(libvirt.ErrNoStoragePool) { // another driver of the test's had it, too
				continue
			}
			if err == nil {
				err = errors.Join(bare.StoragePoolDestroy(pool), bare.StoragePoolUndefine(pool))
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	return d
}

// bareLibvirt is a connection to libvirt that nothing is put around.
func bareLibvirt(t testing.TB) *libvirt.Libvirt {
	t.Helper()
	bare := libvirt.NewWithDialer(dialers.NewLocal())
	if err := bare.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Disconnect() })
	return bare
}

// labTask is the i-th start of a task of one allocation.
func labTask(t testing.TB, i int, disk Disk, interfaces []NetworkInterface) *drivers.TaskConfig {
	t.Helper()
	cfg := &drivers.TaskConfig{
		ID:       fmt.Sprintf("alloc/lab/%08x", i),
		Name:     "lab",
		AllocID:  "alloc",
		NodeID:   "lab-node",
		AllocDir: t.TempDir(),
		Env:      map[string]string{"NOMAD_TASK_NAME": "lab"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{Memory: structs.AllocatedMemoryResources{MemoryMB: 256}},
			LinuxResources: &drivers.LinuxResources{CpusetCpus: "0"},
		},
	}
	if len(interfaces) > 0 {
		cfg.Resources.Ports = &structs.AllocatedPorts{{Label: "http", Value: 20000, To: 8000, HostIP: "10.99.0.2"}}
	}
	dir := cfg.TaskDir()
	for _, path := range []string{dir.SharedAllocDir, dir.LocalDir, dir.SecretsDir} {
		if err := os.MkdirAll(filepath.Clean(path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err := cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Cmds:              []string{"true"},
		Disks:             []Disk{disk},
		NetworkInterfaces: interfaces,
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}
