package storage

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// underTest is a pool, and how a test looks into it by other means.
type underTest struct {
	Pool
	name   string
	format string // of its disks
	// place completes what the plan says of a volume in this pool.
	place func(vm.Volume) vm.Volume
	// read returns what a guest reads of a volume.
	read func(t *testing.T, v vm.Volume) []byte
}

func (p underTest) volume(name string, size vm.Bytes) vm.Volume {
	return p.place(vm.Volume{Pool: p.name, Name: name, Format: p.format, Size: size, Sparse: true})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rawImage is an inspected image of some content.
func rawImage(t *testing.T, content []byte) (*os.File, vm.Image) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.img")
	must(t, os.WriteFile(path, content, 0o600))
	file, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { file.Close() })
	inspected, err := image.Inspect(t.Context(), file, image.Raw)
	must(t, err)
	return file, inspected
}

// data is content of some size that has no holes.
func data(seed byte, size vm.Bytes) []byte {
	return bytes.Repeat([]byte{seed, 'd', 'a', 't'}, int(size)/4)
}

// imported makes a volume of an image.
func (p underTest) imported(t *testing.T, name string, size vm.Bytes, content []byte) vm.Volume {
	t.Helper()
	file, inspected := rawImage(t, content)
	v := p.volume(name, size)
	p.removeLater(t, v)
	must(t, p.Import(t.Context(), image.Copy{File: file, Image: inspected, To: v}))
	return v
}

func (p underTest) overlaid(t *testing.T, name string, size vm.Bytes, parent vm.Volume) vm.Volume {
	t.Helper()
	v := p.volume(name, size)
	v.Parent = parent.Name
	p.removeLater(t, v)
	must(t, p.Overlay(t.Context(), v, parent))
	return v
}

func (p underTest) removeLater(t *testing.T, v vm.Volume) {
	t.Cleanup(func() {
		if err := p.Remove(context.Background(), v); err != nil { // the test's own context has ended
			t.Error(err)
		}
	})
}

// mustRead tells whether a guest reads some content and zeros to the end.
func (p underTest) mustRead(t *testing.T, v vm.Volume, content []byte) {
	t.Helper()
	want := slices.Concat(content, make([]byte, int(v.Size)-len(content)))
	if got := p.read(t, v); !bytes.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		t.Errorf("volume %s is %d bytes which differ at %d, want %d bytes of data and zeros to %d", v.Name, len(got), at, len(content), len(want))
	}
}

// mustHave tells whether the pool has a volume, asked in both ways.
func (p underTest) mustHave(t *testing.T, name string, want bool) {
	t.Helper()
	is, err := p.Exists(t.Context(), name)
	must(t, err)
	names, err := p.List(t.Context())
	must(t, err)
	if listed := slices.Contains(names, name); is != want || listed != want {
		t.Errorf("volume %s exists: %t, and is listed: %t, want both %t", name, is, listed, want)
	}
}

func mustBe(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

const mib = vm.MiB

// testPool tells whether a pool keeps the promises of Pool.
func testPool(t *testing.T, p underTest) {
	t.Run("a volume is created empty, and removed", func(t *testing.T) {
		v := p.volume("empty", 2*mib)
		p.removeLater(t, v)
		p.mustHave(t, "empty", false)
		must(t, p.Create(t.Context(), v))
		p.mustHave(t, "empty", true)
		p.mustRead(t, v, nil)
		for range 2 {
			must(t, p.Remove(t.Context(), v))
			p.mustHave(t, "empty", false)
		}
	})

	t.Run("an image is imported, and grown", func(t *testing.T) {
		content := data('i', mib)
		p.mustRead(t, p.imported(t, "same", mib, content), content)
		p.mustRead(t, p.imported(t, "grown", 3*mib, content), content)
	})

	t.Run("an overlay is what its parent is, and grown", func(t *testing.T) {
		content := data('o', mib)
		parent := p.imported(t, "parent", mib, content)
		p.mustRead(t, p.overlaid(t, "overlay-same", mib, parent), content)
		p.mustRead(t, p.overlaid(t, "overlay-grown", 3*mib, parent), content)
		p.mustRead(t, parent, content)
	})

	t.Run("a volume has one name", func(t *testing.T) {
		content, other := data('r', mib), data('s', mib)
		v := p.imported(t, "before", mib, content)
		renamed := p.volume("after", mib)
		p.removeLater(t, renamed)
		must(t, p.Rename(t.Context(), vm.Volume{Pool: p.name, Name: "before"}, "after")) // the name is enough
		p.mustHave(t, "before", false)
		p.mustHave(t, "after", true)
		p.mustRead(t, renamed, content)
		p.mustRead(t, p.overlaid(t, "overlay-renamed", mib, renamed), content)
		mustBe(t, "renaming what is not there", p.Rename(t.Context(), v, "elsewhere"), ErrNoVolume)
		p.mustHave(t, "elsewhere", false)

		v = p.imported(t, "before", mib, other)
		mustBe(t, "renaming to what is there", p.Rename(t.Context(), v, "after"), ErrExist)
		p.mustRead(t, v, other)
		p.mustRead(t, renamed, content)
	})

	t.Run("a source is a volume that is there", func(t *testing.T) {
		v := p.imported(t, "golden", 2*mib, data('g', mib))
		s, err := p.Source(t.Context(), "golden", "")
		must(t, err)
		if s.File != nil {
			defer s.File.Close()
		}
		if s.Volume.Pool != p.name || s.Volume.Name != "golden" || s.Volume.Format != p.format || s.Volume.Size != v.Size ||
			s.Volume.Path != v.Path || (s.Volume.RBD == nil) != (v.RBD == nil) {
			t.Errorf("the source is %+v, want %+v", s.Volume, v)
		}
		if is, want := s.File != nil && s.Image != nil, v.Path != ""; is != want {
			t.Errorf("the source is a file, and judged: %t, want %t", is, want)
		}
		_, err = p.Source(t.Context(), "none", "")
		mustBe(t, "a source that is not there", err, ErrNoVolume)
	})

	t.Run("the use of a base is noted", func(t *testing.T) {
		p.imported(t, "base", mib, data('b', mib))
		before := time.Now().Add(-time.Second) // Ceph's note is to the second
		must(t, p.Used(t.Context(), "base"))
		used, err := p.LastUsed(t.Context(), "base")
		must(t, err)
		if used.Before(before) || used.After(time.Now()) {
			t.Errorf("the base was used last at %s, want after %s", used, before)
		}
		_, err = p.LastUsed(t.Context(), "none")
		mustBe(t, "the last use of what is not there", err, ErrNoVolume)
		if err := p.Used(t.Context(), "none"); err == nil {
			t.Error("the use of what is not there is noted, want an error")
		}
		p.mustHave(t, "none", false)
	})

	t.Run("a volume that others overlay stays", func(t *testing.T) {
		base := p.imported(t, "in-use", mib, data('u', mib))
		overlays := []vm.Volume{p.overlaid(t, "user-1", mib, base), p.overlaid(t, "user-2", 2*mib, base)}
		for _, overlay := range overlays {
			mustBe(t, "removing a volume in use", p.RemoveUnused(t.Context(), "in-use"), ErrInUse)
			p.mustHave(t, "in-use", true)
			p.mustRead(t, overlay, data('u', mib))
			must(t, p.Remove(t.Context(), overlay))
		}
		for range 2 { // the second time it is gone
			must(t, p.RemoveUnused(t.Context(), "in-use"))
			p.mustHave(t, "in-use", false)
		}
	})
}

func TestFakePoolIsAPool(t *testing.T) {
	fake := &fakePool{}
	testPool(t, underTest{
		Pool:   fake,
		name:   "pool",
		format: image.Raw,
		place:  func(v vm.Volume) vm.Volume { return v },
		read:   func(_ *testing.T, v vm.Volume) []byte { return fake.volumes[v.Name].content },
	})
}
