//go:build lab

package storage

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// BenchmarkImport measures how long it takes to inspect an image of 2 GiB and to
// make a disk of it in a directory pool, against the faster of the bare tools that
// do the same work into a new file: "qemu-img convert" and "cp --reflink=auto
// --sparse=auto". It reports the ratio of the medians; the target is 1.1 at most.
//
// The images are in IMAGE_BENCH_DIR, or in a temporary directory: 9 GiB. They
// are in the page cache in all runs, what the run before wrote is removed, and
// nothing waits to be written. Free memory was used right before: in a VM, the
// first use of what its host has taken back takes longer than all the rest. No
// run waits for the disk at its end.
//
// To copy a qcow2 as a file is less work than to make a volume of it, whose tables
// are made anew: its time is told, and is not in the ratio.
func BenchmarkImport(b *testing.B) {
	dir := os.Getenv("IMAGE_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	pool := realDirectory(b, filepath.Join(dir, "pool"))
	for _, disk := range []struct {
		name string
		data int // MiB of 16 that are data
	}{{"mostly data", 15}, {"mostly holes", 2}} {
		raw := filepath.Join(dir, "image.raw")
		writeDisk(b, raw, disk.data)
		qcow2 := filepath.Join(dir, "image.qcow2")
		run(b, "qemu-img", "convert", "-O", "qcow2", raw, qcow2)
		for _, work := range []struct {
			name, image, from, to string
		}{
			{"raw to raw", raw, image.Raw, image.Raw},
			{"qcow2 to qcow2", qcow2, image.Qcow2, image.Qcow2},
			{"raw to qcow2", raw, image.Raw, image.Qcow2},
		} {
			out := filepath.Join(dir, "out")
			tools := map[string]func(){
				"Make":    func() { makeDisk(b, pool, work.image, work.to) },
				"convert": func() { run(b, "qemu-img", "convert", "-f", work.from, "-O", work.to, work.image, out) },
			}
			if work.from == work.to {
				tools["cp"] = func() { run(b, "cp", "--reflink=auto", "--sparse=auto", work.image, out) }
			}
			b.Run(work.name+", "+disk.name, func(b *testing.B) { compare(b, pool, work.image, out, work.to, tools) })
		}
	}
}

const benchSize = 2 * vm.GiB

// compare runs the tools in turns, each time in another order.
func compare(b *testing.B, pool *Directory, source, out, format string, tools map[string]func()) {
	b.Helper()
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range tools {
			if !yield(name) {
				return
			}
		}
	})
	took := make(map[string][]time.Duration)
	for i := 0; b.Loop(); i++ {
		for j := range names {
			name := names[(i+j)%len(names)]
			readAll(b, source)
			unix.Sync()
			useMemory(b, out+".scratch")
			began := time.Now()
			tools[name]()
			took[name] = append(took[name], time.Since(began))
			if name == "Make" {
				must(b, pool.Remove(b.Context(), vm.Volume{Pool: pool.Name, Name: benchVolume}))
				continue
			}
			must(b, os.Remove(out))
		}
	}
	fastest := time.Duration(0)
	for name, all := range took {
		median := slices.Sorted(slices.Values(all))[len(all)/2]
		took[name] = []time.Duration{median}
		b.ReportMetric(median.Seconds()*1000, name+"-ms")
		same := name == "convert" || name == "cp" && format == image.Raw
		if same && (fastest == 0 || median < fastest) {
			fastest = median
		}
	}
	b.ReportMetric(float64(took["Make"][0])/float64(fastest), "ratio")
	b.ReportMetric(0, "ns/op") // of all together, which says nothing
}

const benchVolume = "web-5a6e215e-vda"

// makeDisk makes a disk of an image, as a start does.
func makeDisk(b *testing.B, pool *Directory, source, format string) {
	b.Helper()
	file, err := os.Open(source)
	must(b, err)
	defer file.Close()
	inspected, err := image.Inspect(b.Context(), file, "")
	must(b, err)
	disk := vm.Disk{Device: "vda", Image: &inspected, Volume: vm.Volume{
		Pool: pool.Name, Name: benchVolume, Path: pool.path(benchVolume), Format: format, Size: benchSize, Sparse: true,
	}}
	store := New(map[string]Pool{pool.Name: pool}, nil, 0)
	must(b, store.Make(b.Context(), disk, file, (&events{}).tell))
}

// writeDisk writes a raw image of which so many MiB of each 16 are data, the
// same each time.
func writeDisk(b *testing.B, path string, data int) {
	b.Helper()
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(int64(benchSize)); err != nil {
		b.Fatal(err)
	}
	source := rand.NewChaCha8([32]byte{1})
	buffer := make([]byte, vm.MiB)
	for i := range int64(benchSize / vm.MiB) {
		if int(i%16) >= data {
			continue
		}
		if _, err := io.ReadFull(source, buffer); err != nil {
			b.Fatal(err)
		}
		if _, err := file.WriteAt(buffer, i*int64(vm.MiB)); err != nil {
			b.Fatal(err)
		}
	}
}

// useMemory writes a file of the size of a disk, and removes it.
func useMemory(b *testing.B, path string) {
	b.Helper()
	file, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	defer os.Remove(path)
	buffer := make([]byte, vm.MiB)
	for range benchSize / vm.MiB {
		if _, err := file.Write(buffer); err != nil {
			b.Fatal(err)
		}
	}
}

// readAll has a file in the page cache.
func readAll(b *testing.B, path string) {
	b.Helper()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{file}, make([]byte, vm.MiB)); err != nil {
		b.Fatal(err)
	}
}
