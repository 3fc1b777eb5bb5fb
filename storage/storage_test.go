package storage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

// holding is a fake pool of some volumes.
func holding(names ...string) *fakePool {
	p := &fakePool{volumes: make(map[string]*fakeVolume)}
	for _, name := range names {
		p.volumes[name] = &fakeVolume{}
	}
	return p
}

func TestKeptVolumeTellsUntilWhen(t *testing.T) {
	zone := time.FixedZone("CET", 3600)
	for _, test := range []struct {
		name  string
		until time.Time
		want  string
	}{
		{"web-5a6e215e-vda.qcow2", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "kept-until-20260102T030405Z+web-5a6e215e-vda.qcow2"},
		{"web-5a6e215e-vda", time.Date(2026, 1, 2, 3, 4, 5, 999, zone), "kept-until-20260102T020405Z+web-5a6e215e-vda"},
		{"kept-until-20260102T030405Z+x", time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
			"kept-until-20270101T000000Z+kept-until-20260102T030405Z+x"},
	} {
		got := keptName(test.name, test.until)
		if got != test.want {
			t.Errorf("%s is kept as %s, want %s", test.name, got, test.want)
		}
		until, kept := keptUntil(got)
		if want := test.until.UTC().Truncate(time.Second); !kept || !until.Equal(want) {
			t.Errorf("%s is kept: %t, until %s, want until %s", got, kept, until, want)
		}
	}
}

// lookalikes are names of volumes that somebody else may have made, or that a
// job's author may have had a VM's volumes called.
var lookalikes = []string{
	"",
	"kept",
	"kept-until-",
	"kept-until-+web",
	"kept-until-20200102T030405Z",
	"kept-until-20200102T030405Z+",
	"kept-until-20200102T030405Z-web-5a6e215e-vda.qcow2", // of the task "kept-until-20200102T030405Z-web"
	"kept-until-20200102T030405Z.web",
	"kept-until-20200102T030405+web",
	"kept-until-2020-01-02T03:04:05Z+web",
	"kept-until-20200102T0304Z+web",
	"kept-until-20201302T030405Z+web",
	"kept-until-20200230T030405Z+web",
	"kept-until-20200102T250405Z+web",
	"kept-until-yesterday+web",
	"Kept-until-20200102T030405Z+web",
	"my-kept-until-20200102T030405Z+web",
	" kept-until-20200102T030405Z+web",
	"kept-until-20200102T030405.9Z+web",

	"base",
	"base-",
	"base-0123456789abcdef0123456789abcde",
	"base-0123456789abcdef0123456789abcdef0",
	"base-0123456789ABCDEF0123456789ABCDEF",
	"base-0123456789abcdef0123456789abcdeg",
	"base-0123456789abcdef0123456789abcdef.img",
	"base-0123456789abcdef0123456789abcdef.qcow2.bak",
	"base-0123456789abcdef0123456789abcdef\n",
	"mybase-0123456789abcdef0123456789abcdef",

	"golden.qcow2",
	"web-5a6e215e-vda.qcow2",
	"web-5a6e215e-vda-base.qcow2",
	"web-5a6e215e-seed.iso",
}

func TestSweepLeavesWhatOnlyLooksOurs(t *testing.T) {
	p := holding(lookalikes...)
	removed, err := inPool(p).Sweep(t.Context(), time.Now().Add(1000*time.Hour))
	must(t, err)
	want := slices.Sorted(slices.Values(lookalikes))
	if diff := cmp.Diff(want, names(p)); diff != "" || len(removed) != 0 {
		t.Errorf("sweeping removes %q (-want +got):\n%s", removed, diff)
	}
	for name, v := range p.volumes {
		if !v.used.IsZero() {
			t.Errorf("the use of %q was noted, want it to be left alone", name)
		}
	}
}

// Tests of time have a clock of their own, which begins at the year 2000.
func TestRetireKeepsWhatIsToBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding("disk", "data")
		s := inPool(p)
		kept := volume("disk", mib)
		kept.Keep = 24 * time.Hour
		for range 2 { // the second time after a crash: the journal is as it was
			must(t, s.Retire(t.Context(), kept))
			must(t, s.Retire(t.Context(), volume("data", mib)))
			if diff := cmp.Diff([]string{"kept-until-20000102T000000Z+disk"}, names(p)); diff != "" {
				t.Errorf("the pool (-want +got):\n%s", diff)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestRetireTellsWhatFailed(t *testing.T) {
	broken := errors.New("broken")
	p := holding("disk")
	p.before = func(string, string) error { return broken }
	v := volume("disk", mib)
	v.Keep = time.Hour
	mustBe(t, "keeping a volume", inPool(p).Retire(t.Context(), v), broken)

	// Whatever has the name is somebody's.
	p = holding("disk")
	p.before = func(what, _ string) error {
		if what == "rename" {
			return ErrExist
		}
		return nil
	}
	mustBe(t, "keeping a volume whose name is taken", inPool(p).Retire(t.Context(), v), ErrExist)
}

func TestRemoveNotesTheUseOfTheBase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding("disk", "other", base, "golden")
		s := inPool(p)
		for name, parent := range map[string]string{"disk": base, "other": "golden", "gone": base} {
			v := volume(name, mib)
			v.Parent = parent
			must(t, s.Remove(t.Context(), v))
		}
		if diff := cmp.Diff([]string{base, "golden"}, names(p)); diff != "" {
			t.Errorf("the pool (-want +got):\n%s", diff)
		}
		if got := p.volumes[base].used; !got.Equal(time.Now()) {
			t.Errorf("the base was used last at %s, want now, %s: from here on nobody may need it", got, time.Now())
		}
		if !p.volumes["golden"].used.IsZero() {
			t.Error("the use of a volume of somebody's was noted, want it to be left alone")
		}
		delete(p.volumes, base)
		v := volume("late", mib)
		v.Parent = base
		must(t, s.Remove(t.Context(), v)) // the base is gone: that is no matter
	})
}

func TestVolumeOfAPoolThatLeftTheConfiguration(t *testing.T) {
	configured, orphaned := holding("disk"), holding("disk")
	var asked []string
	s := New(map[string]Pool{"pool": configured}, func(v vm.Volume) Pool {
		asked = append(asked, v.Pool)
		return orphaned
	}, time.Hour)
	must(t, s.Remove(t.Context(), vm.Volume{Pool: "old", Name: "disk", Path: "/srv/old/disk"}))
	if len(orphaned.volumes) != 0 || len(configured.volumes) != 1 || !slices.Equal(asked, []string{"old"}) {
		t.Errorf("of the pools %q and %q the volume was removed by asking for %q, want it removed from the old one",
			names(configured), names(orphaned), asked)
	}

	want := `volume disk is in storage pool "ceph", which the plugin's configuration does not have any more; ` +
		"add the pool again until it is removed"
	for what, err := range map[string]error{
		"Remove": s.Remove(t.Context(), vm.Volume{Pool: "ceph", Name: "disk"}),
		"Retire": s.Retire(t.Context(), vm.Volume{Pool: "ceph", Name: "disk", Keep: time.Hour}),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("%s of a volume that has no path: %v, want %s", what, err, want)
		}
	}
}

func TestEnsureTellsLibvirtOfAllPools(t *testing.T) {
	a, b := &fakePool{}, &fakePool{}
	s := New(map[string]Pool{"a": a, "b": b}, nil, 0)
	must(t, s.EnsureFor(t.Context(), []vm.Volume{{Pool: "b"}, {Pool: "b"}}))
	if a.ensured || !b.ensured {
		t.Errorf("for volumes in b, a is ensured: %t, and b: %t, want b alone", a.ensured, b.ensured)
	}
	must(t, s.Ensure(t.Context()))
	if !a.ensured {
		t.Error("a is not ensured, want all")
	}
	if err := s.EnsureFor(t.Context(), []vm.Volume{{Pool: "c"}}); err == nil || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("ensuring a pool that is not there: %v, want an error that names it", err)
	}
}

func TestVolumesOfVMsAreNoSources(t *testing.T) {
	refused := []string{
		"web-5a6e215e-seed.iso", "web-5a6e215e-vda.qcow2", "web-5a6e215e-vda.img", "web-5a6e215e-vda", "web-5a6e215e-sdab",
		"a.b_c-5a6e215e-hda.qcow2", "web-5a6e215e-vda-base.qcow2", "web-5a6e215e-vda-base",
		"kept-until-20260102T030405Z+web-5a6e215e-vda.qcow2",
	}
	taken := []string{
		"golden.qcow2", base, base + ".qcow2", "kept-until-tomorrow+web-5a6e215e-vda.qcow2",
		"web-5a6e215e", "web-5a6e215e-copy.qcow2", "web-vda.qcow2", "web-5A6E215E-vda.qcow2", "web-5a6e215e-vda.qcow2.bak",
	}
	s := inPool(holding(slices.Concat(refused, taken)...))
	for _, name := range refused {
		want := `volume "` + name + `" is a VM's own, which goes with its task or is kept for a look at it; ` +
			`give it, or a copy of it, another name to make disks from it`
		if _, err := s.Source(t.Context(), "pool", name, ""); err == nil || err.Error() != want {
			t.Errorf("the source %q: %v, want %s", name, err, want)
		}
	}
	for _, name := range taken {
		if _, err := s.Source(t.Context(), "pool", name, ""); err != nil {
			t.Errorf("the source %q is refused: %v", name, err)
		}
	}
}

// renamingPool has volumes that are being renamed: they have both names.
type renamingPool struct{ *fakePool }

func (renamingPool) Rename(context.Context, vm.Volume, string) error { return ErrNoVolume }

func TestVolumeThatIsBeingRenamedIsNotRemoved(t *testing.T) {
	p := holding("disk")
	err := inPool(renamingPool{p}).Retire(t.Context(), vm.Volume{Pool: "pool", Name: "disk", Keep: time.Hour})
	if err == nil || len(p.volumes) != 1 {
		t.Errorf("retiring it: %v, and there is %q, want it to be left for another try", err, names(p))
	}
	must(t, inPool(renamingPool{holding()}).Retire(t.Context(), vm.Volume{Pool: "pool", Name: "disk", Keep: time.Hour}))
}

// Nor are they by their paths, where an operator has images in a pool's directory.
func TestFilesOfVMsAreNoImages(t *testing.T) {
	pool, other := t.TempDir(), t.TempDir()
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(pool, link))
	s := New(map[string]Pool{"linked": &Directory{Name: "linked", Path: link}, "fake": holding()}, nil, 0)
	for path, refused := range map[string]bool{
		filepath.Join(pool, "web-5a6e215e-seed.iso"):                                          true,
		filepath.Join(pool, "kept-until-20260102T030405Z+web-5a6e215e-vda.img"):               true,
		filepath.Join(pool, "debian.qcow2"):                                                   false,
		filepath.Join(other, "web-5a6e215e-vda.qcow2"):                                        false,
		filepath.Join(filepath.Dir(pool), filepath.Base(pool)+"-2", "web-5a6e215e-vda.qcow2"): false,
	} {
		if err := s.RefusePrivate(path); (err != nil) != refused {
			t.Errorf("the image %s: %v, want it refused: %t", path, err, refused)
		}
	}
}

func TestRemoveAllOfTakesTheVolumesOfOneVM(t *testing.T) {
	ofVM := []string{"web-5a6e215e-vda.qcow2", "web-5a6e215e-sdb.img", "web-5a6e215e-vdc-base.qcow2", "web-5a6e215e-seed.iso"}
	others := []string{
		"golden.qcow2", base, "kept-until-20260102T030405Z+web-5a6e215e-vda.qcow2",
		"web-01234567-vda.qcow2", "my-web-5a6e215e-vda.qcow2", "web-5a6e215ef-01234567-vda.qcow2", "web-5a6e215e.qcow2",
		"web-5a6e215e-x-01234567-vda.qcow2", // of a task that is called "web-5a6e215e-x"
		"web-5a6e215e-backup.qcow2",
	}
	a, b := holding(slices.Concat(ofVM, others)...), holding("web-5a6e215e-vdd", "golden")
	s := New(map[string]Pool{"a": a, "b": b}, nil, 0)
	must(t, s.RemoveAllOf(t.Context(), "web-5a6e215e"))
	if diff := cmp.Diff(slices.Sorted(slices.Values(others)), names(a)); diff != "" {
		t.Errorf("the first pool (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"golden"}, names(b), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the other pool (-want +got):\n%s", diff)
	}
}

func TestKeepAllOfKeepsWhatAGuestMayHaveWritten(t *testing.T) {
	others := []string{"golden.qcow2", base, "web-01234567-vda.qcow2", "web-5a6e215e-backup.qcow2"}
	a := holding(append([]string{"web-5a6e215e-vda.qcow2", "web-5a6e215e-vda-base.qcow2", "web-5a6e215e-seed.iso"}, others...)...)
	b := holding("web-5a6e215e-hdb.img", "web-5a6e215e-vdd", "web-5a6e215e-vdd-base", "golden")
	away := holding("web-5a6e215e-vde")
	broken := errors.New("broken")
	away.before = func(string, string) error { return broken }
	s := New(map[string]Pool{"a": a, "b": b, "away": away}, nil, 0)
	before := time.Now().Add(-time.Second) // names have whole seconds
	kept, err := s.KeepAllOf(t.Context(), "web-5a6e215e", time.Hour)
	mustBe(t, "keeping what cannot be renamed", err, broken)
	if kept != 3 {
		t.Errorf("%d volumes are said to be kept, want 3", kept)
	}
	left := func(p *fakePool) (all []string) {
		for _, name := range names(p) {
			if until, is := keptUntil(name); is {
				if until.Before(before.Add(time.Hour)) || until.After(time.Now().Add(time.Hour)) {
					t.Errorf("%s is kept until %s, want an hour", name, until)
				}
				_, was, _ := strings.Cut(name, keptMark)
				name = "kept " + was
			}
			all = append(all, name)
		}
		return slices.Sorted(slices.Values(all))
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(append(others, "kept web-5a6e215e-vda.qcow2"))), left(a)); diff != "" {
		t.Errorf("the first pool (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"golden", "kept web-5a6e215e-hdb.img", "kept web-5a6e215e-vdd"}, left(b)); diff != "" {
		t.Errorf("the other pool (-want +got):\n%s", diff)
	}

	away.before = nil
	kept, err = s.KeepAllOf(t.Context(), "web-5a6e215e", time.Hour)
	must(t, err)
	if kept != 1 || len(left(away)) != 1 || left(away)[0] != "kept web-5a6e215e-vde" {
		t.Errorf("%d volumes are said to be kept the second time, and there is %q, want that which could not be", kept, left(away))
	}
}

func TestClusterThatIsAwayIsAskedOnce(t *testing.T) {
	in := func(pool, name string) vm.Volume { return vm.Volume{Pool: pool, Name: name} }
	volumes := []vm.Volume{in("away", "a"), in("here", "c"), in("away", "b"), in("here", "d")}
	for what, each := range map[string]func(*Store, context.Context, []vm.Volume) error{
		"removing": (*Store).RemoveEach,
		"retiring": (*Store).RetireEach,
	} {
		away, here := holding("a", "b"), holding("c", "d")
		asked := 0
		away.before = func(string, string) error {
			asked++
			return rbd.ErrUnreachable
		}
		broken := errors.New("broken")
		here.before = func(_, name string) error {
			if name == "c" {
				return broken
			}
			return nil
		}
		err := each(New(map[string]Pool{"away": away, "here": here}, nil, 0), t.Context(), volumes)
		mustBe(t, what, err, rbd.ErrUnreachable)
		mustBe(t, what, err, broken)
		if asked != 1 {
			t.Errorf("%s asks the cluster that is away %d times, want once", what, asked)
		}
		if diff := cmp.Diff([]string{"c"}, names(here)); diff != "" {
			t.Errorf("%s: the other pool (-want +got):\n%s", what, diff)
		}
	}
}

func TestNamesOfNoVolumeAreRefused(t *testing.T) {
	for _, test := range []struct {
		name              string
		directory, inCeph bool // whether it is refused there
	}{
		{"golden.qcow2", false, false},
		{"a b", false, false},
		{"", true, true},
		{"/", true, true},
		{"../a", true, true},
		{"a/b", true, true},
		{".hidden", true, false},
		{"..", true, false},
		{"a@snap", false, true},
		{"web-5a6e215e-vda.qcow2", true, true},
		{"web-5a6e215e-vda", true, true},
	} {
		for _, in := range []struct{ ceph, refused bool }{{false, test.directory}, {true, test.inCeph}} {
			if err := RefuseName(test.name, in.ceph); (err != nil) != in.refused {
				t.Errorf("%q, in Ceph %t: %v, want it refused: %t", test.name, in.ceph, err, in.refused)
			}
		}
	}
}
