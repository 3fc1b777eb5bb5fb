package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// events is what the author of a job was told.
type events struct {
	mu  sync.Mutex // guards all
	all []string
}

func (e *events) tell(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf(format, args...))
}

// inPool is a store of one pool.
func inPool(pool Pool) *Store {
	return New(map[string]Pool{"pool": pool}, func(vm.Volume) Pool { return pool }, 24*time.Hour)
}

func volume(name string, size vm.Bytes) vm.Volume {
	return vm.Volume{Pool: "pool", Name: name, Format: "raw", Size: size, Sparse: true}
}

const base = "base-0123456789abcdef0123456789abcdef"

// chained is a disk on the base of an image; name tells disks apart.
func chained(name string, img *vm.Image) vm.Disk {
	d := vm.Disk{Device: "vda", Volume: volume(name, mib), Image: img, Base: &vm.Base{
		Volume:  volume(base, img.Size),
		Staging: volume(name+"-base", img.Size),
	}}
	d.Volume.Parent = base
	return d
}

// names lists the volumes of a fake pool, each with what it overlays.
func names(p *fakePool) []string {
	all, _ := p.List(context.Background())
	for i, name := range all {
		if parent := p.volumes[name].parent; parent != "" {
			all[i] += " on " + parent
		}
	}
	return all
}

func TestMake(t *testing.T) {
	content := data('m', mib/2)
	file, img := rawImage(t, content)
	whole := append(bytes.Clone(content), make([]byte, mib/2)...)
	const copied, imported = "Copied image IMAGE to disk vda in 0s", "Imported image IMAGE as base " + base + " of pool pool in 0s"

	for _, test := range []struct {
		name   string
		disk   vm.Disk
		has    []string // the pool beforehand, with that content
		want   []string // the pool afterwards
		disks  []byte   // content
		events []string
	}{
		{
			name:  "an empty disk",
			disk:  vm.Disk{Device: "vda", Volume: volume("disk", mib)},
			want:  []string{"disk"},
			disks: make([]byte, mib),
		},
		{
			name:   "a copy of an image",
			disk:   vm.Disk{Device: "vda", Volume: volume("disk", mib), Image: &img},
			want:   []string{"disk"},
			disks:  whole,
			events: []string{copied},
		},
		{
			name:   "a chained disk whose base is not there",
			disk:   chained("disk", &img),
			want:   []string{base, "disk on " + base},
			disks:  whole,
			events: []string{imported},
		},
		{
			name:  "a chained disk whose base is there",
			disk:  chained("disk", &img),
			has:   []string{base},
			want:  []string{base, "disk on " + base},
			disks: whole,
		},
		{
			name: "a disk on a volume of somebody's",
			disk: vm.Disk{Device: "vda", Volume: volume("disk", mib), Base: &vm.Base{Volume: volume("golden", img.Size)}},
			has:  []string{"golden"},
			want: []string{"disk on golden", "golden"}, disks: whole,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &fakePool{volumes: make(map[string]*fakeVolume)}
			for _, name := range test.has {
				p.volumes[name] = &fakeVolume{content: bytes.Clone(content)}
			}
			var told events
			must(t, inPool(p).Make(t.Context(), test.disk, file, told.tell))
			if diff := cmp.Diff(test.want, names(p)); diff != "" {
				t.Errorf("the pool (-want +got):\n%s", diff)
			}
			if got := p.volumes["disk"].content; !bytes.Equal(got, test.disks) {
				t.Errorf("the disk is %d bytes of other content, want %d bytes of the source and zeros", len(got), len(test.disks))
			}
			for i, event := range told.all {
				told.all[i] = strings.ReplaceAll(event, img.Path, "IMAGE")
			}
			if diff := cmp.Diff(test.events, told.all); diff != "" {
				t.Errorf("the events (-want +got):\n%s", diff)
			}
			if b := p.volumes[base]; b != nil && time.Since(b.used) > time.Minute {
				t.Errorf("the use of the base was noted at %s, want now", b.used)
			}
			if g := p.volumes["golden"]; g != nil && !g.used.IsZero() {
				t.Error("the use of a volume of somebody's was noted, want it to be left alone")
			}
		})
	}
}

func TestPoolThatIsNotThereIsNamed(t *testing.T) {
	s, v := inPool(&fakePool{}), vm.Volume{Pool: "slow", Name: "disk"}
	_, source := s.Source(t.Context(), "slow", "disk", "")
	for what, err := range map[string]error{
		"Make":     s.Make(t.Context(), vm.Disk{Volume: v}, nil, nil),
		"MakeFrom": s.MakeFrom(t.Context(), v, nil),
		"Source":   source,
	} {
		if err == nil || err.Error() != `the plugin's configuration has no storage pool "slow"` {
			t.Errorf("%s: %v, want that the configuration has no such pool", what, err)
		}
	}
}

func TestMakeFromHoldsTheBytes(t *testing.T) {
	p, content := &fakePool{}, data('c', 4096)
	must(t, inPool(p).MakeFrom(t.Context(), volume("seed", 0), content))
	if got := p.volumes["seed"]; got == nil || !bytes.Equal(got.content, content) {
		t.Errorf("the volume is %v, want one of the bytes", got)
	}
}

// gate holds up what a fake pool does until it is opened.
type gate struct {
	what string
	open chan struct{}
}

func (g gate) before(what, _ string) error {
	if what == g.what {
		<-g.open
	}
	return nil
}

func TestTasksThatStartAtOnceMakeABaseOnce(t *testing.T) {
	file, img := rawImage(t, data('o', mib))
	synctest.Test(t, func(t *testing.T) {
		slow := gate{"import", make(chan struct{})}
		p := &fakePool{before: slow.before}
		s := inPool(p)
		var told events
		errs := make(chan error)
		for i := range 4 {
			go func() { errs <- s.Make(t.Context(), chained(fmt.Sprint("disk-", i), &img), file, told.tell) }()
		}
		synctest.Wait() // one imports, the others wait for it
		if _, made := p.volumes[base]; made {
			t.Error("the base has its name while it is imported, want it to be complete first")
		}
		close(slow.open)
		for range 4 {
			must(t, <-errs)
		}
		if p.imports != 1 || len(told.all) != 1 {
			t.Errorf("the image was imported %d times, and the events are %q, want it once", p.imports, told.all)
		}
		if diff := cmp.Diff([]string{base, "disk-0 on " + base, "disk-1 on " + base, "disk-2 on " + base, "disk-3 on " + base}, names(p)); diff != "" {
			t.Errorf("the pool (-want +got):\n%s", diff)
		}
	})
}

func TestWaitingForABaseEndsWithTheContext(t *testing.T) {
	file, img := rawImage(t, data('w', mib))
	synctest.Test(t, func(t *testing.T) {
		slow := gate{"import", make(chan struct{})}
		s := inPool(&fakePool{before: slow.before})
		first, second := make(chan error), make(chan error)
		go func() { first <- s.Make(t.Context(), chained("one", &img), file, (&events{}).tell) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { second <- s.Make(ctx, chained("other", &img), file, (&events{}).tell) }()
		synctest.Wait()
		cancel()
		mustBe(t, "waiting for a base that another makes", <-second, context.Canceled)
		close(slow.open)
		must(t, <-first)
	})
}

func TestFailedImportLeavesTheNameOfTheBase(t *testing.T) {
	file, img := rawImage(t, data('f', mib))
	broken := errors.New("the pool is full")
	p := &fakePool{before: func(what, _ string) error {
		if what == "import" {
			return broken
		}
		return nil
	}}
	s := inPool(p)
	var told events
	mustBe(t, "making a disk", s.Make(t.Context(), chained("disk", &img), file, told.tell), broken)
	if diff := cmp.Diff([]string{"disk-base"}, names(p)); diff != "" {
		t.Errorf("the pool, where what was begun has the name that the journal knows (-want +got):\n%s", diff)
	}
	if len(told.all) != 0 {
		t.Errorf("the events are %q, want none of success", told.all)
	}

	p.before = nil
	must(t, s.Make(t.Context(), chained("next", &img), file, told.tell))
	if b := p.volumes[base]; b == nil || b.content[0] != 'f' {
		t.Error("the next start does not make the base")
	}
}

// A Ceph pool has other hosts.
func TestBaseThatAnotherHostMadeMeanwhileIsUsed(t *testing.T) {
	file, img := rawImage(t, data('a', mib))
	theirs := data('t', mib)
	p := &fakePool{}
	p.before = func(what, _ string) error {
		if what == "rename" {
			p.volumes[base] = &fakeVolume{content: theirs}
		}
		return nil
	}
	must(t, inPool(p).Make(t.Context(), chained("disk", &img), file, (&events{}).tell))
	if diff := cmp.Diff([]string{base, "disk on " + base}, names(p)); diff != "" {
		t.Errorf("the pool, where only one base is left (-want +got):\n%s", diff)
	}
	if !bytes.Equal(p.volumes["disk"].content, theirs) {
		t.Error("the disk is not on the base that has the name")
	}
}

func TestProgressTellsEachQuarterOfWhatTakesLong(t *testing.T) {
	type step struct {
		after time.Duration // the step before
		done  float64
	}
	for name, test := range map[string]struct {
		steps []step
		want  []string
	}{
		"nothing of what is over within five seconds": {
			[]step{{time.Second, 0.25}, {time.Second, 0.5}, {2900 * time.Millisecond, 0.99}, {0, 1}}, nil,
		},
		"each quarter once": {
			[]step{
				{10 * time.Second, 0.1}, {10 * time.Second, 0.2}, {10 * time.Second, 0.3}, {10 * time.Second, 0.4},
				{10 * time.Second, 0.5}, {10 * time.Second, 0.6}, {10 * time.Second, 0.7}, {10 * time.Second, 0.8},
				{10 * time.Second, 0.9}, {10 * time.Second, 1},
			},
			[]string{"Copying: 25% done after 30s", "Copying: 50% done after 50s", "Copying: 75% done after 1m20s"},
		},
		"the last quarter alone, of several that are over at once": {
			[]step{{4 * time.Second, 0.4}, {time.Second, 0.6}, {time.Second, 0.7}, {time.Second, 0.95}},
			[]string{"Copying: 50% done after 5s", "Copying: 75% done after 7s"},
		},
		"nothing when it begins": {[]step{{time.Minute, 0}, {0, 0.2}}, nil},
		"no step back":           {[]step{{time.Minute, 0.5}, {time.Second, 0.25}, {time.Second, 0.5}}, []string{"Copying: 50% done after 1m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told events
				progress := Quarters("Copying", told.tell)
				for _, s := range test.steps {
					time.Sleep(s.after) // of the test's own clock
					progress(s.done)
				}
				if diff := cmp.Diff(test.want, told.all); diff != "" {
					t.Errorf("the events (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// stuckPool is a pool in which nothing that is made is ever complete.
type stuckPool struct{ *fakePool }

func (stuckPool) Create(ctx context.Context, _ vm.Volume) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (p stuckPool) Import(ctx context.Context, c image.Copy) error { return p.Create(ctx, c.To) }

func TestDiskThatTakesTooLongIsGivenUp(t *testing.T) {
	file, img := rawImage(t, data('m', mib))
	for name, disk := range map[string]vm.Disk{
		"an empty disk": {Device: "vda", Volume: volume("disk", mib)},
		"a copy":        {Device: "vda", Volume: volume("disk", mib), Image: &img},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			s := New(map[string]Pool{"pool": stuckPool{holding()}}, nil, 0)
			err := s.Make(t.Context(), disk, file, (&events{}).tell)
			if took := time.Since(began); took != 30*time.Minute || err == nil || err.Error() != "it took longer than 30m0s" {
				t.Errorf("%s that never ends: %v after %s, want it to be given up after 30 min", name, err, took)
			}
		})
	}
}
