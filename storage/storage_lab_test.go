//go:build lab

package storage

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// These tests run inside the lab: lab/lab run go test -tags lab ./storage

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// libvirt returns the lab's libvirt, connected.
func libvirt(t testing.TB) *hypervisor.Host {
	t.Helper()
	host, err := hypervisor.New("qemu:///system")
	must(t, err)
	running, end := context.WithCancel(context.Background())
	t.Cleanup(end) // after what else the test cleans up
	go host.Run(running)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, host.Health(ctx))
	return host
}

// realDirectory is a pool in a directory, which libvirt runs.
func realDirectory(t testing.TB, path string) *Directory {
	t.Helper()
	d := &Directory{Host: libvirt(t), Name: "storage-" + strings.ReplaceAll(strings.TrimPrefix(path, os.TempDir()+"/"), "/", "-"), Path: path}
	must(t, d.Ensure(t.Context()))
	t.Cleanup(func() {
		run(t, "virsh", "-q", "pool-destroy", d.Name)
		run(t, "virsh", "-q", "pool-undefine", d.Name)
	})
	return d
}

// underTest is the directory with disks of a format.
func (d *Directory) underTest(format string) underTest {
	return underTest{
		Pool:   d,
		name:   d.Name,
		format: format,
		place: func(v vm.Volume) vm.Volume {
			v.Path = filepath.Join(d.Path, v.Name)
			return v
		},
		read: func(t *testing.T, v vm.Volume) []byte {
			t.Helper()
			return rawContent(t, "-f", v.Format, v.Path)
		},
	}
}

// rawContent is what qemu-img reads of a disk.
func rawContent(t *testing.T, source ...string) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	run(t, "qemu-img", slices.Concat([]string{"convert", "-O", "raw"}, source, []string{raw})...)
	content, err := os.ReadFile(raw)
	must(t, err)
	return content
}

func TestDirectoryIsAPool(t *testing.T) {
	testPool(t, realDirectory(t, t.TempDir()).underTest(image.Qcow2))
}

// qcow2Image is an inspected qcow2 of some content.
func qcow2Image(t *testing.T, content []byte) (*os.File, vm.Image) {
	t.Helper()
	raw, _ := rawImage(t, content)
	path := filepath.Join(t.TempDir(), "a.qcow2")
	run(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw.Name(), path)
	file, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	inspected, err := image.Inspect(t.Context(), file, "")
	must(t, err)
	return file, inspected
}

// A whole life on a real pool: four tasks start at once on an image that is new,
// end, and the base goes when its time is over.
func TestTasksShareABaseOnARealPool(t *testing.T) {
	for name, pool := range map[string]func(t *testing.T) underTest{
		"directory": func(t *testing.T) underTest { return realDirectory(t, t.TempDir()).underTest(image.Qcow2) },
		"ceph":      realCeph,
	} {
		t.Run(name, func(t *testing.T) {
			p := pool(t)
			suffix := map[string]string{image.Qcow2: ".qcow2", image.Raw: ""}[p.format]
			content := data('l', 4*mib)
			file, img := qcow2Image(t, content)
			s := New(map[string]Pool{p.name: p.Pool}, nil, 24*time.Hour)
			before, err := p.List(t.Context())
			must(t, err)

			var told events
			disk := func(i int) vm.Disk {
				vmName := fmt.Sprintf("web-0000000%d", i)
				d := vm.Disk{Device: "vda", Image: &img, Volume: p.volume(vmName+"-vda"+suffix, 6*mib), Base: &vm.Base{
					Volume:  p.volume(base+suffix, img.Size),
					Staging: p.volume(vmName+"-vda-base"+suffix, img.Size),
				}}
				d.Volume.Parent = d.Base.Name
				return d
			}
			errs := make(chan error)
			for i := range 4 {
				go func() { errs <- s.Make(t.Context(), disk(i), file, told.tell) }()
			}
			for range 4 {
				must(t, <-errs)
			}
			if len(told.all) != 1 || !strings.HasPrefix(told.all[0], "Imported image "+img.Path+" as base "+base) {
				t.Errorf("the events are %q, want one of one import", told.all)
			}
			for i := range 4 {
				p.mustRead(t, disk(i).Volume, content)
				p.mustHave(t, disk(i).Base.Staging.Name, false)
			}
			mustImportNothing(t, s, p, disk(4), file)

			later := time.Now().Add(25 * time.Hour)
			mustSweepNothing(t, s, later)
			kept := disk(0).Volume
			kept.Keep = time.Hour
			must(t, s.Retire(t.Context(), kept))
			for i := 1; i <= 4; i++ {
				must(t, s.Retire(t.Context(), disk(i).Volume))
			}
			keptName := p.kept(t, disk(0).Volume.Name)
			eventually(t, "virsh lists the kept volume", func() bool {
				return strings.Contains(run(t, "virsh", "-q", "vol-list", p.name), keptName)
			})
			p.mustRead(t, p.volume(keptName, 6*mib), content)
			mustSweepNothing(t, s, time.Now().Add(59*time.Minute))

			removed, err := s.Sweep(t.Context(), time.Now().Add(2*time.Hour))
			must(t, err)
			if diff := cmp.Diff([]string{p.name + "/" + keptName}, removed); diff != "" {
				t.Errorf("two hours later sweeping removes (-want +got):\n%s", diff)
			}
			removed, err = s.Sweep(t.Context(), later.Add(25*time.Hour))
			must(t, err)
			if diff := cmp.Diff([]string{p.name + "/" + base + suffix}, removed); diff != "" {
				t.Errorf("two days later sweeping removes (-want +got):\n%s", diff)
			}
			after, err := p.List(t.Context())
			must(t, err)
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("what was in the pool, and what is left (-want +got):\n%s", diff)
			}
		})
	}
}

// mustImportNothing makes a disk whose base is there.
func mustImportNothing(t *testing.T, s *Store, p underTest, d vm.Disk, file *os.File) {
	t.Helper()
	var told events
	must(t, s.Make(t.Context(), d, file, told.tell))
	if len(told.all) != 0 {
		t.Errorf("the events are %q, want no import: the base is there", told.all)
	}
	p.mustHave(t, d.Volume.Name, true)
}

func mustSweepNothing(t *testing.T, s *Store, when time.Time) {
	t.Helper()
	if removed, err := s.Sweep(t.Context(), when); err != nil || len(removed) != 0 {
		t.Errorf("sweeping removes %q, %v, want nothing", removed, err)
	}
}

// kept finds the name by which a volume is kept.
func (p underTest) kept(t *testing.T, name string) string {
	t.Helper()
	all, err := p.List(t.Context())
	must(t, err)
	at := slices.IndexFunc(all, func(n string) bool { return strings.HasPrefix(n, keptPrefix) && strings.HasSuffix(n, name) })
	if at < 0 {
		t.Fatalf("of %q none is %s, kept", all, name)
	}
	return all[at]
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	waitFor(t, 10*time.Second, what, is)
}

func waitFor(t *testing.T, patience time.Duration, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func TestVolumeThatIsNotSparseIsAllocated(t *testing.T) {
	d := realDirectory(t, t.TempDir())
	for _, format := range []string{image.Raw, image.Qcow2} {
		p := d.underTest(format)
		v := p.volume("full."+format, 8*mib)
		v.Sparse = false
		must(t, d.Create(t.Context(), v))
		if got := allocated(v.Path); got < 8*mib {
			t.Errorf("a %s of 8MiB that is not sparse takes %s", format, got)
		}
		v.Name, v.Path, v.Sparse = "sparse."+format, filepath.Join(d.Path, "sparse."+format), true
		must(t, d.Create(t.Context(), v))
		if got := allocated(v.Path); got > mib {
			t.Errorf("a %s of 8MiB that is sparse takes %s", format, got)
		}
	}
}

func TestSourceWithOtherFilesIsRefused(t *testing.T) {
	d := realDirectory(t, t.TempDir())
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", filepath.Join(d.Path, "whole.qcow2"), "1M")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "whole.qcow2", "-F", "qcow2", filepath.Join(d.Path, "overlay.qcow2"))
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+filepath.Join(d.Path, "data"), filepath.Join(d.Path, "split.qcow2"), "1M")
	s, err := d.Source(t.Context(), "whole.qcow2", "")
	must(t, err)
	s.File.Close()
	for _, name := range []string{"overlay.qcow2", "split.qcow2"} {
		if s, err := d.Source(t.Context(), name, ""); err == nil {
			s.File.Close()
			t.Errorf("the source %s is taken, which is part of more", name)
		}
	}
}

func TestMakeFromOnRealPools(t *testing.T) {
	content := bytes.Repeat([]byte("cloud-init "), 5000)
	for name, p := range map[string]underTest{
		"directory": realDirectory(t, t.TempDir()).underTest(image.Raw),
		"ceph":      realCeph(t),
	} {
		v := p.volume("web-5a6e215e-seed.iso", 0)
		p.removeLater(t, v)
		must(t, New(map[string]Pool{p.name: p.Pool}, nil, 0).MakeFrom(t.Context(), v, content))
		if got := p.read(t, v); !bytes.HasPrefix(got, content) || len(bytes.TrimRight(got, "\x00")) != len(content) {
			t.Errorf("in the pool of kind %s it is %d bytes of other content, want %d", name, len(got), len(content))
		}
	}
}
