//go:build lab

package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
)

// BenchmarkStartTask measures the driver's own time in StartTask, for a chained
// disk whose base is in the pool already, against the bare libvirt calls that
// the same VM takes at least: define and start of the same XML on an open
// connection. It reports the ratio of the medians; the target is 1.3 at most.
//
// With a network there is one more call that libvirt takes its time for, the
// reservation of an address, which runs beside the start: that ratio has
// libvirt's time for it in the numerator, and not in the denominator.
func BenchmarkStartTask(b *testing.B) {
	for name, interfaces := range map[string][]NetworkInterface{
		"without a network": nil,
		"with a network":    {{Bridge: &Bridge{Name: "virbr0", Ports: []string{"http"}}}},
	} {
		b.Run(name, func(b *testing.B) { benchmarkStart(b, interfaces) })
	}
}

func benchmarkStart(b *testing.B, interfaces []NetworkInterface) {
	b.Helper()
	d := New(b.Context(), "bench", hclog.NewNullLogger())
	config := Config{
		ImagePaths:   []string{"/var/lib/virt/images"},
		StoragePools: &StoragePools{Directory: map[string]DirectoryPool{"local": {Path: "/var/lib/virt/storage"}}},
	}
	var encoded []byte
	if err := base.MsgPackEncode(&encoded, &config); err != nil {
		b.Fatal(err)
	}
	if err := d.SetConfig(&base.Config{PluginConfig: encoded}); err != nil {
		b.Fatal(err)
	}
	bare := libvirt.NewWithDialer(dialers.NewLocal())
	if err := bare.Connect(); err != nil {
		b.Fatal(err)
	}
	defer func() { _ = bare.Disconnect() }()

	startOnce(b, d, bare, benchTask(b, 0, interfaces)) // makes the base
	var ours, theirs []time.Duration
	for i := 1; b.Loop(); i++ {
		our, their := startOnce(b, d, bare, benchTask(b, i, interfaces))
		ours, theirs = append(ours, our), append(theirs, their)
	}
	b.ReportMetric(median(ours).Seconds()*1000, "StartTask-ms")
	b.ReportMetric(median(theirs).Seconds()*1000, "libvirt-ms")
	b.ReportMetric(float64(median(ours))/float64(median(theirs)), "ratio")
}

// startOnce starts a task, and then its domain once more by libvirt's calls
// alone. It leaves nothing but the base.
func startOnce(b *testing.B, d *Driver, bare *libvirt.Libvirt, cfg *drivers.TaskConfig) (ours, theirs time.Duration) {
	b.Helper()
	began := time.Now()
	if _, _, err := d.StartTask(cfg); err != nil {
		b.Fatal(err)
	}
	ours = time.Since(began)

	domain, err := bare.DomainLookupByName(vmName(cfg.Name, cfg.ID))
	if err != nil {
		b.Fatal(err)
	}
	document, err := bare.DomainGetXMLDesc(domain, libvirt.DomainXMLInactive)
	if err != nil {
		b.Fatal(err)
	}
	for _, do := range []func(libvirt.Domain) error{bare.DomainDestroy, bare.DomainUndefine} {
		if err := do(domain); err != nil {
			b.Fatal(err)
		}
	}
	began = time.Now()
	if domain, err = bare.DomainDefineXML(document); err == nil {
		err = bare.DomainCreate(domain)
	}
	if err != nil {
		b.Fatal(err)
	}
	theirs = time.Since(began)

	if err := d.DestroyTask(cfg.ID, true); err != nil {
		b.Fatal(err)
	}
	return ours, theirs
}

func benchTask(b *testing.B, i int, interfaces []NetworkInterface) *drivers.TaskConfig {
	b.Helper()
	cfg := &drivers.TaskConfig{
		ID:       fmt.Sprintf("alloc/bench/%08x", i),
		Name:     "bench",
		AllocID:  "alloc",
		AllocDir: b.TempDir(),
		Env:      map[string]string{"NOMAD_TASK_NAME": "bench"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{Memory: structs.AllocatedMemoryResources{MemoryMB: 256}},
			LinuxResources: &drivers.LinuxResources{CpusetCpus: "0"},
			Ports:          &structs.AllocatedPorts{{Label: "http", Value: 20000, To: 8000, HostIP: "10.99.0.2"}},
		},
	}
	dir := cfg.TaskDir()
	for _, path := range []string{dir.SharedAllocDir, dir.LocalDir, dir.SecretsDir} {
		if err := os.MkdirAll(filepath.Clean(path), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	err := cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Cmds:              []string{"true"},
		Disks:             []Disk{{Chained: true, Source: &DiskSource{Image: "tiny.qcow2"}}},
		NetworkInterfaces: interfaces,
	})
	if err != nil {
		b.Fatal(err)
	}
	return cfg
}

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
