package storage

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// directory is a pool in a directory, whose libvirt never answers.
func directory(t *testing.T) *Directory {
	t.Helper()
	host, err := hypervisor.New("qemu:///system?socket=" + filepath.Join(t.TempDir(), "none"))
	must(t, err)
	go host.Run(t.Context())
	return &Directory{Host: host, Name: "local", Path: t.TempDir()}
}

// write writes a file of the directory, and returns what names it as a volume.
func (d *Directory) write(t *testing.T, name string, content []byte) vm.Volume {
	t.Helper()
	v := vm.Volume{Pool: d.Name, Name: name, Path: filepath.Join(d.Path, name)}
	must(t, os.WriteFile(v.Path, content, 0o600))
	return v
}

// qcow2 is the header of a small qcow2 of some size that overlays a file, or
// none if that is "".
//
// See https://www.qemu.org/docs/master/interop/qcow2.html
func qcow2(size vm.Bytes, backing string) []byte {
	header := make([]byte, 64<<10)
	copy(header, "QFI\xfb")
	binary.BigEndian.PutUint32(header[4:], 3) // version
	if backing != "" {
		binary.BigEndian.PutUint64(header[8:], 512)
		binary.BigEndian.PutUint32(header[16:], uint32(len(backing)))
		copy(header[512:], backing)
	}
	binary.BigEndian.PutUint32(header[20:], 16) // bits of a cluster
	binary.BigEndian.PutUint64(header[24:], uint64(size))
	binary.BigEndian.PutUint32(header[96:], 4)    // bits of a refcount
	binary.BigEndian.PutUint32(header[100:], 104) // length of the header
	return header
}

func TestVolumesOfADirectoryAreItsFiles(t *testing.T) {
	d := directory(t)
	d.write(t, "b.img", nil)
	d.write(t, "a b.qcow2", nil)
	must(t, os.Mkdir(filepath.Join(d.Path, "directory"), 0o700))
	must(t, os.Symlink(filepath.Join(d.Path, "b.img"), filepath.Join(d.Path, "link")))
	names, err := d.List(t.Context())
	must(t, err)
	slices.Sort(names)
	if diff := cmp.Diff([]string{"a b.qcow2", "b.img"}, names); diff != "" {
		t.Errorf("the volumes (-want +got):\n%s", diff)
	}
	for name, want := range map[string]bool{"b.img": true, "c.img": false} {
		if is, err := d.Exists(t.Context(), name); err != nil || is != want {
			t.Errorf("volume %s exists: %t, %v, want %t", name, is, err, want)
		}
	}

	d.Path = filepath.Join(d.Path, "none")
	if _, err := d.List(t.Context()); err == nil || !strings.Contains(err.Error(), "listing storage pool local") {
		t.Errorf("listing a directory that is not there: %v, want an error that names the pool", err)
	}
}

func TestSourceOfADirectory(t *testing.T) {
	d := directory(t)
	d.write(t, "raw.img", make([]byte, 4096))
	d.write(t, "golden.qcow2", qcow2(3*vm.GiB, ""))
	for _, test := range []struct {
		name, format string
		want         vm.Volume
	}{
		{"raw.img", "", vm.Volume{Format: "raw", Size: 4096}},
		{"raw.img", "raw", vm.Volume{Format: "raw", Size: 4096}},
		{"golden.qcow2", "", vm.Volume{Format: "qcow2", Size: 3 * vm.GiB}},
		{"golden.qcow2", "qcow2", vm.Volume{Format: "qcow2", Size: 3 * vm.GiB}},
		{"golden.qcow2", "raw", vm.Volume{Format: "raw", Size: 64 * vm.KiB}},
	} {
		s, err := d.Source(t.Context(), test.name, test.format)
		must(t, err)
		s.File.Close()
		test.want.Pool, test.want.Name, test.want.Path = "local", test.name, filepath.Join(d.Path, test.name)
		if diff := cmp.Diff(test.want, s.Volume); diff != "" {
			t.Errorf("the source %s of format %q (-want +got):\n%s", test.name, test.format, diff)
		}
		if s.Image.Path != test.want.Path || s.Image.Format != test.want.Format || s.Image.Size != test.want.Size {
			t.Errorf("the source %s is to be copied as %+v, want the same as %+v", test.name, *s.Image, test.want)
		}
	}
}

func TestSourceThatCannotBeHad(t *testing.T) {
	d := directory(t)
	outside := filepath.Join(t.TempDir(), "outside.img")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	must(t, os.Symlink(outside, filepath.Join(d.Path, "link.img")))
	must(t, os.Mkdir(filepath.Join(d.Path, "directory"), 0o700))
	d.write(t, "empty.img", nil)
	d.write(t, "raw.img", make([]byte, 4096))
	d.write(t, "overlay.qcow2", qcow2(vm.GiB, "/etc/shadow"))
	for _, test := range []struct {
		name, format, want string
		is                 error
	}{
		{"none.img", "", `storage pool local at ` + d.Path + ` has no volume "none.img"; virsh vol-list local lists those it has: no such volume`, ErrNoVolume},
		{"link.img", "", `"link.img" leads to ` + outside + ", outside of the directories that tasks may use: " + d.Path, hostfile.ErrOutside},
		{"", "", `"" is no name of a volume`, nil},
		{".", "", `"." is no name of a volume`, nil},
		{"..", "", `".." is no name of a volume`, nil},
		{".hidden", "", `".hidden" is no name of a volume`, nil},
		{"../" + filepath.Base(d.Path) + "/raw.img", "", `is no name of a volume`, nil},
		{filepath.Join(d.Path, "raw.img"), "", `is no name of a volume`, nil},
		{"directory", "", "is no regular file", nil},
		{"empty.img", "", "volume " + d.Path + "/empty.img: the image is empty", nil},
		{"raw.img", "qcow2", "volume " + d.Path + "/raw.img: the image is said to be qcow2 and is raw", nil},
		{"overlay.qcow2", "", "volume " + d.Path + "/overlay.qcow2: the image is an overlay of another file", nil},
	} {
		s, err := d.Source(t.Context(), test.name, test.format)
		if err == nil {
			s.File.Close()
			t.Errorf("the source %q of format %q is taken", test.name, test.format)
			continue
		}
		if !strings.Contains(err.Error(), test.want) {
			t.Errorf("the source %q of format %q: %v, want %s", test.name, test.format, err, test.want)
		}
		if test.is != nil {
			mustBe(t, "the source "+test.name, err, test.is)
		}
	}
}

func TestUseOfABaseIsTheTimeOfItsFile(t *testing.T) {
	d := directory(t)
	v := d.write(t, base, []byte("content"))
	old := time.Now().Add(-100 * time.Hour)
	must(t, os.Chtimes(v.Path, old, old))
	if used, err := d.LastUsed(t.Context(), base); err != nil || used.Sub(old).Abs() > time.Second {
		t.Errorf("the base was used last at %s, %v, want %s", used, err, old)
	}
	must(t, d.Used(t.Context(), base))
	if used, err := d.LastUsed(t.Context(), base); err != nil || time.Since(used) > time.Minute {
		t.Errorf("the base was used last at %s, %v, want now", used, err)
	}
}

func TestRenameTakesNoNameThatIsTaken(t *testing.T) {
	d := directory(t)
	v := d.write(t, "staging", []byte("ours"))
	d.write(t, base, []byte("theirs"))
	err := d.Rename(t.Context(), v, base)
	mustBe(t, "renaming to what is there", err, ErrExist)
	for _, words := range []string{"staging", base, "local"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("the error is %q, want %s in it", err, words)
		}
	}
	for name, want := range map[string]string{"staging": "ours", base: "theirs"} {
		if got, err := os.ReadFile(filepath.Join(d.Path, name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	mustBe(t, "renaming what is not there", d.Rename(t.Context(), vm.Volume{Name: "none", Path: filepath.Join(d.Path, "none")}, "other"), ErrNoVolume)
}

// That libvirt lists a volume by its new name is for convenience.
func TestRenameNeedsNoLibvirt(t *testing.T) {
	d := directory(t)
	must(t, d.Rename(t.Context(), d.write(t, "disk", []byte("ours")), "kept"))
	if got, err := os.ReadFile(filepath.Join(d.Path, "kept")); err != nil || string(got) != "ours" {
		t.Errorf("the volume holds %q, %v, want what it did", got, err)
	}
	if is, _ := d.Exists(t.Context(), "disk"); is {
		t.Error("the volume has its old name still")
	}
}

func TestVolumeInUseIsFoundHoweverItsOverlayNamesIt(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "link")
	for name, backing := range map[string]func(d *Directory) string{
		"by its path":                 func(d *Directory) string { return filepath.Join(d.Path, base) },
		"by its name":                 func(*Directory) string { return base },
		"by a name with dots":         func(d *Directory) string { return "../" + filepath.Base(d.Path) + "/" + base },
		"by a path that is not clean": func(d *Directory) string { return d.Path + "//../" + filepath.Base(d.Path) + "/" + base },
		"by a symlink of the pool's":  func(*Directory) string { return filepath.Join(elsewhere, base) },
		"by a link to it":             func(*Directory) string { return "link" },
		"by a name with a protocol":   func(*Directory) string { return "file:" + base },
		"by a description": func(*Directory) string {
			return `json:{"driver":"qcow2","file":{"driver":"file","filename":"` + base + `"}}`
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := directory(t)
			_ = os.Remove(elsewhere)
			must(t, os.Symlink(d.Path, elsewhere))
			must(t, os.Symlink(base, filepath.Join(d.Path, "link")))
			d.write(t, base, qcow2(vm.GiB, ""))
			d.write(t, "disk", qcow2(vm.GiB, backing(d)))
			err := d.RemoveUnused(t.Context(), base)
			mustBe(t, "removing it", err, ErrInUse)
			for _, words := range []string{base, "local", "disk"} {
				if err != nil && !strings.Contains(err.Error(), words) {
					t.Errorf("the error is %q, want %s in it", err, words)
				}
			}
			if is, _ := d.Exists(t.Context(), base); !is {
				t.Error("it is gone")
			}
		})
	}
}

func TestVolumeThatOthersOnlySeemToOverlayIsNotInUse(t *testing.T) {
	d := directory(t)
	d.write(t, base, qcow2(vm.GiB, ""))
	d.write(t, "other-base", qcow2(vm.GiB, ""))
	for name, content := range map[string][]byte{
		"on another":  qcow2(vm.GiB, filepath.Join(d.Path, "other-base")),
		"on its like": qcow2(vm.GiB, filepath.Join("/elsewhere", base)),
		"on nothing":  qcow2(vm.GiB, base+".qcow2"),
		"raw":         []byte("raw " + base),
		"empty":       nil,
		"cut off":     qcow2(vm.GiB, base)[:100],
		"cut further": qcow2(vm.GiB, base)[:515],
		"described":   qcow2(vm.GiB, `json:{"driver":"qcow2","file":{"driver":"file","filename":"other-base"}}`),
		// What a guest has written to its raw disk.
		"web-5a6e215e-vda.img":                             qcow2(vm.GiB, filepath.Join(d.Path, base)),
		"kept-until-20260102T030405Z+web-5a6e215e-vda.img": qcow2(vm.GiB, `json:{"filename":"`+base+`"}`),
	} {
		d.write(t, name, content)
	}
	// So it asks libvirt to remove it, which is away.
	if err := d.RemoveUnused(t.Context(), base); errors.Is(err, ErrInUse) || err == nil || !strings.Contains(err.Error(), "libvirt") {
		t.Errorf("removing it: %v, want an error of libvirt's absence", err)
	}
}

// What cannot be seen is not gone.
func TestVolumeOfADirectoryThatIsAwayMayExist(t *testing.T) {
	d := directory(t)
	if is, err := d.Exists(t.Context(), "disk"); is || err != nil {
		t.Errorf("a volume that is not there: %t, %v", is, err)
	}
	must(t, os.Remove(d.Path))
	is, err := d.Exists(t.Context(), "disk")
	mustBe(t, "asking a directory that is away", err, ErrAway)
	if is {
		t.Error("it tells of a volume")
	}
}

func TestNoVolumeOverlaysItself(t *testing.T) {
	d := directory(t)
	d.write(t, "disk", qcow2(vm.GiB, filepath.Join(d.Path, "disk")))
	if err := d.RemoveUnused(t.Context(), "disk"); errors.Is(err, ErrInUse) {
		t.Errorf("removing it: %v", err)
	}
}

func TestVolumeThatIsGoneIsNotInUse(t *testing.T) {
	must(t, directory(t).RemoveUnused(t.Context(), base))
}

func TestPoolThatIsTooSmallTellsWhatIsNeededAndFree(t *testing.T) {
	d := directory(t)
	v := vm.Volume{Pool: "local", Name: "disk", Path: filepath.Join(d.Path, "disk"), Format: "raw", Size: 1 << 60}
	err := d.Create(t.Context(), v)
	if err == nil {
		t.Fatal("a volume of an exbibyte is made")
	}
	want := "storage pool local at " + d.Path + " is full: 1048576TiB (1152921504606846976 bytes) are needed, "
	if got := err.Error(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " bytes) are free; make room there, or name another pool") {
		t.Errorf("the error is %q, want it to begin with %q, and to tell what is free", got, want)
	}

	// A sparse one takes nothing yet: what refuses it is libvirt, which is away.
	v.Sparse = true
	if err := d.Create(t.Context(), v); err == nil || strings.Contains(err.Error(), "is full") {
		t.Errorf("creating a sparse volume: %v, want an error of libvirt's absence", err)
	}
}
