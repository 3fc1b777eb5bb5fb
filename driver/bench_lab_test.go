//go:build lab

package driver

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
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
	d := labDriver(b, map[string]DirectoryPool{"local": {Path: "/var/lib/virt/storage"}})
	bare := bareLibvirt(b)
	chained := Disk{Chained: true, Source: &DiskSource{Image: "tiny.qcow2"}}
	startOnce(b, d, bare, labTask(b, 0, chained, interfaces)) // makes the base
	var ours, theirs []time.Duration
	for i := 1; b.Loop(); i++ {
		our, their := startOnce(b, d, bare, labTask(b, i, chained, interfaces))
		ours, theirs = append(ours, our), append(theirs, their)
	}
	b.ReportMetric(median(ours).Seconds()*1000, "StartTask-ms")
	b.ReportMetric(median(theirs).Seconds()*1000, "libvirt-ms")
	b.ReportMetric(float64(median(ours))/float64(median(theirs)), "ratio")
}

// BenchmarkStartBesideManyVolumes measures a start in a pool of 1,000 volumes
// against one in a pool of 10: a start is not to pay for its neighbours. The
// target is a ratio of 1.2 at most.
func BenchmarkStartBesideManyVolumes(b *testing.B) {
	few, many := b.TempDir(), b.TempDir()
	for dir, volumes := range map[string]int{few: 10, many: 1000} {
		for i := range volumes {
			name := filepath.Join(dir, fmt.Sprintf("neighbour-%04d.img", i))
			if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, 1<<20)); err != nil {
				b.Fatal(err)
			}
		}
	}
	in := func(pool string) Disk {
		return Disk{Pool: pool, Chained: true, Source: &DiskSource{Image: "tiny.qcow2"}}
	}
	benchmarkTwo(b, map[string]DirectoryPool{"bench-few": {Path: few}, "bench-many": {Path: many}}, in("bench-few"), in("bench-many"))
}

// BenchmarkStartOnALargeImage measures a chained start on an image of 4 GiB
// against one on an image of 0.2 GiB, whose bases are in the pool: no byte of an
// image is read that was seen before, so that the ratio is 1.
func BenchmarkStartOnALargeImage(b *testing.B) {
	dir := b.TempDir()
	write := func(name string, size int64) Disk {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			b.Fatal(err)
		}
		defer file.Close()
		content := io.LimitReader(rand.NewChaCha8([32]byte{1}), size)
		if _, err := io.Copy(file, content); err != nil {
			b.Fatal(err)
		}
		return Disk{Chained: true, Source: &DiskSource{Image: file.Name()}}
	}
	small, large := write("small.img", 200<<20), write("large.img", 4<<30)
	benchmarkTwo(b, map[string]DirectoryPool{"bench-bases": {Path: b.TempDir()}}, small, large, dir)
}

// benchmarkTwo reports the ratio of the medians of two starts that differ in
// their disk.
func benchmarkTwo(b *testing.B, pools map[string]DirectoryPool, base, against Disk, images ...string) {
	b.Helper()
	d := labDriver(b, pools, images...)
	bare := bareLibvirt(b)
	// Both bases are made first.
	startOnce(b, d, bare, labTask(b, 0, base, nil))
	startOnce(b, d, bare, labTask(b, 1, against, nil))
	var ones, others []time.Duration
	for i := 2; b.Loop(); i += 2 {
		one, _ := startOnce(b, d, bare, labTask(b, i, base, nil))
		other, _ := startOnce(b, d, bare, labTask(b, i+1, against, nil))
		ones, others = append(ones, one), append(others, other)
	}
	b.ReportMetric(median(ones).Seconds()*1000, "base-ms")
	b.ReportMetric(median(others).Seconds()*1000, "against-ms")
	b.ReportMetric(float64(median(others))/float64(median(ones)), "ratio")
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

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}
