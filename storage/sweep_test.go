package storage

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sweep sweeps now, and returns what was removed.
func sweep(t *testing.T, s *Store) []string {
	t.Helper()
	removed, err := s.Sweep(t.Context(), time.Now())
	must(t, err)
	slices.Sort(removed)
	return removed
}

func mustSweep(t *testing.T, s *Store, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, sweep(t, s), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s sweeping removes (-want +got):\n%s", when, diff)
	}
}

func TestSweepRemovesWhatWasKeptLongEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding("one", "two")
		s := inPool(p)
		for name, keep := range map[string]time.Duration{"one": time.Hour, "two": 2 * time.Hour} {
			v := volume(name, mib)
			v.Keep = keep
			must(t, s.Retire(t.Context(), v))
		}
		mustSweep(t, s, "at once")
		time.Sleep(time.Hour - time.Second)
		mustSweep(t, s, "a second too early")
		time.Sleep(time.Second)
		mustSweep(t, s, "after the hour", "pool/kept-until-20000101T010000Z+one")
		time.Sleep(time.Hour)
		mustSweep(t, s, "after another hour", "pool/kept-until-20000101T020000Z+two")
		if all := names(p); len(all) != 0 {
			t.Errorf("%q are left", all)
		}
	})
}

func TestSweepLeavesAKeptVolumeThatIsOverlaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = "kept-until-20000101T000000Z+disk"
		p := holding(kept, "mine")
		p.volumes["mine"].parent = kept
		s := inPool(p)
		mustSweep(t, s, "while another volume needs it")
		delete(p.volumes, "mine")
		time.Sleep(inUseFor)
		mustSweep(t, s, "afterwards", "pool/"+kept)
	})
}

// Whether a volume is in use takes a look at all others of its pool.
func TestSweepSeldomLooksAtWhatIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = "kept-until-20000101T000000Z+disk"
		p := holding(base, "disk", kept, "mine")
		p.volumes["disk"].parent, p.volumes["mine"].parent = base, kept
		p.volumes[base].used = time.Now()
		s := New(map[string]Pool{"pool": p}, nil, 0) // no base is kept that is not in use
		looked := make(map[string]int)
		p.before = func(what, name string) error {
			if what == "remove unused" {
				looked[name]++
			}
			return nil
		}
		for range 60 {
			time.Sleep(time.Minute)
			mustSweep(t, s, "while others overlay all that there is")
		}
		for name, times := range looked {
			if times > 7 {
				t.Errorf("%s was looked at %d times in an hour, want about every ten minutes", name, times)
			}
		}

		// A base whose last disk goes has not to wait for the next look.
		disk := volume("disk", mib)
		disk.Parent = base
		must(t, s.Remove(t.Context(), disk))
		mustSweep(t, s, "when its disk is gone", "pool/"+base)
	})
}

func TestSweepRemovesBasesThatNobodyUsedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const file = base + ".qcow2"
		p := holding(base, file)
		s := inPool(p) // where they stay for 24 h
		p.volumes[base].used = time.Now()
		p.volumes[file].used = time.Now().Add(-time.Hour)
		mustSweep(t, s, "at once")
		time.Sleep(23*time.Hour - time.Second)
		mustSweep(t, s, "a second too early")
		time.Sleep(time.Second)
		mustSweep(t, s, "23 hours later", "pool/"+file)
		time.Sleep(time.Hour)
		mustSweep(t, s, "a day later", "pool/"+base)
	})
}

func TestSweepStaysWithABaseThatIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding(base)
		s := inPool(p)
		p.volumes[base].used = time.Now()
		mustSweep(t, s, "at once")
		time.Sleep(23 * time.Hour)
		must(t, p.Used(t.Context(), base))
		time.Sleep(23 * time.Hour)
		mustSweep(t, s, "23 hours after the second use")
		time.Sleep(time.Hour)
		mustSweep(t, s, "a day after the second use", "pool/"+base)
	})
}

// A base may be in use for longer than it is kept without.
func TestSweepNeverRemovesABaseInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding(base, "disk")
		p.volumes["disk"].parent = base
		p.volumes[base].used = time.Now()
		s, began := inPool(p), time.Now()
		asked := make(map[string]int)
		p.before = func(what, _ string) error { asked[what]++; return nil }
		for range 10 * 24 { // ten days, each hour
			time.Sleep(time.Hour)
			mustSweep(t, s, "while a disk needs it, "+time.Since(began).String()+" on,")
		}
		for what, times := range asked { // each takes a look at every volume, or a process
			if times > 11 {
				t.Errorf("the pool was asked (%s) %d times in ten days, want about once a day", what, times)
			}
		}

		must(t, s.Remove(t.Context(), volume("disk", mib)))
		ended := time.Now()
		for len(sweep(t, s)) == 0 {
			time.Sleep(time.Minute)
			if time.Since(ended) > 48*time.Hour {
				t.Fatal("the base is there two days after its last user, want it to be removed")
			}
		}
	})
}

// The plugin forgets with each restart what it has seen.
func TestSweepKeepsABaseForADayAfterItWasSeenInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding(base, "disk")
		p.volumes["disk"].parent = base
		p.volumes[base].used = time.Now()
		time.Sleep(100 * time.Hour)
		mustSweep(t, inPool(p), "while a disk needs it")
		delete(p.volumes, "disk") // by hand
		time.Sleep(24*time.Hour - time.Second)
		mustSweep(t, inPool(p), "a second before the day is over")
		time.Sleep(time.Second)
		mustSweep(t, inPool(p), "a day later", "pool/"+base)
	})
}

// In Ceph a use is noted beside the base: whoever made it may have died before.
func TestSweepGivesABaseOfUnknownUseItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := holding(base)
		s := inPool(p)
		mustSweep(t, s, "when it is met first")
		if got := p.volumes[base].used; !got.Equal(time.Now()) {
			t.Errorf("the base was used last at %s, want now, %s", got, time.Now())
		}
		time.Sleep(24*time.Hour - time.Second)
		mustSweep(t, s, "a second before the day is over")
		time.Sleep(time.Second)
		mustSweep(t, s, "a day later", "pool/"+base)
	})
}

func TestSweepTakesNoNoticeOfABaseThatVanishes(t *testing.T) {
	p := holding(base)
	p.before = func(what, name string) error {
		if what == "last used" {
			delete(p.volumes, name) // by another host
		}
		return nil
	}
	mustSweep(t, inPool(p), "after another host did")
}

func TestSweepWaitsForWhoeverIsAboutToUseTheBase(t *testing.T) {
	file, img := rawImage(t, data('b', mib))
	synctest.Test(t, func(t *testing.T) {
		slow := gate{"overlay", make(chan struct{})}
		p := holding(base)
		p.before = slow.before
		p.volumes[base].content = data('b', mib)
		p.volumes[base].used = time.Now().Add(-1000 * time.Hour)
		s := inPool(p)
		made, swept := make(chan error), make(chan error)
		go func() { made <- s.Make(t.Context(), chained("disk", &img), file, (&events{}).tell) }()
		synctest.Wait()
		go func() {
			_, err := s.Sweep(t.Context(), time.Now().Add(1000*time.Hour))
			swept <- err
		}()
		synctest.Wait()
		close(slow.open)
		must(t, <-made)
		must(t, <-swept)
		if diff := cmp.Diff([]string{base, "disk on " + base}, names(p)); diff != "" {
			t.Errorf("the pool (-want +got):\n%s", diff)
		}
	})
}

func TestSweepGoesOnAfterWhatFails(t *testing.T) {
	const kept, other = "kept-until-20000101T000000Z+disk", "kept-until-20000101T000000Z+other"
	broken := errors.New("it is open")
	p := holding(kept, other)
	p.before = func(what, name string) error {
		if what == "remove unused" && name == kept {
			return broken
		}
		return nil
	}
	away := &unlisted{err: errors.New("no monitor answers")}
	s := New(map[string]Pool{"pool": p, "remote": away}, nil, 0)
	removed, err := s.Sweep(t.Context(), time.Now())
	mustBe(t, "a volume that cannot be removed", err, broken)
	mustBe(t, "a pool that is away", err, away.err)
	if want := "removing volume " + kept + " of storage pool pool, whose time is over: it is open"; !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q, want %q in it", err, want)
	}
	if diff := cmp.Diff([]string{"pool/" + other}, removed); diff != "" {
		t.Errorf("what was removed (-want +got):\n%s", diff)
	}
}

// unlisted is a pool that does not answer.
type unlisted struct {
	fakePool
	err error
}

func (u *unlisted) List(context.Context) ([]string, error) { return nil, u.err }
