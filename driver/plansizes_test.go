package driver

import (
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

const tib = 1024 * vm.GiB

// ofSize is a request for a disk of some configuration, whose source is of some
// size.
func ofSize(t *testing.T, config string, size vm.Bytes) request {
	t.Helper()
	r := newRequest(t, config)
	if s := &r.sources[0]; s.image != nil {
		s.image.Size = size
	}
	if s := &r.sources[0]; s.volume != nil {
		s.volume.Size = size
	}
	return r
}

// sized are disks that are made from each kind of source, and what it is called.
var sized = []struct{ config, source string }{
	{`disk { source { image = "a" } }`, "image"},
	{`disk { chained = true source { image = "a" } }`, "image"},
	{`disk { pool = "remote" source { image = "a" } }`, "image"},
	{`disk { source { volume = "a" } }`, "volume"},
	{`disk { chained = true source { volume = "a" } }`, "volume"},
	{`disk { pool = "remote" source { volume = "a" } }`, "volume"},
	{`disk { pool = "remote" chained = true source { volume = "a" } }`, "volume"},
}

func TestDiskSizes(t *testing.T) {
	for size, want := range map[string]vm.Bytes{
		"":              imageSize, // the source's
		"3221225472":    3 * vm.GiB,
		"4000000001":    4000001024, // whole blocks
		"4GB":           4000000000,
		"20 GB":         20000000000,
		"10GiB":         10 * vm.GiB,
		"10 GiB":        10 * vm.GiB,
		"10gib":         10 * vm.GiB,
		"3.5GiB":        3*vm.GiB + 512*vm.MiB,
		"4096MiB":       4 * vm.GiB,
		"4294967296  B": 4 * vm.GiB,
		"2TiB":          2 * tib,
		"2PiB":          2048 * tib,
	} {
		for _, disk := range sized {
			r := newRequest(t, disk.config)
			r.task.Disks[0].Size = size
			if got := mustPlan(t, r).Disks[0].Volume.Size; got != want {
				t.Errorf("%s with size = %q is of %d bytes, want %d", disk.config, size, got, want)
			}
		}
	}
}

func TestDiskHasWholeBlocks(t *testing.T) {
	for _, disk := range sized {
		if got := mustPlan(t, ofSize(t, disk.config, 1000)).Disks[0].Volume.Size; got != 1024 {
			t.Errorf("%s: 1000 bytes make a disk of %d, want 1024", disk.config, got)
		}
	}
}

func TestPlanRefusesSizes(t *testing.T) {
	const form = "; write bytes, or a number and a unit: 20GB, 15GiB"
	for size, want := range map[string]string{
		"0":                      "a disk of no size cannot be made; write a number and a unit, as in 15GiB",
		"0GiB":                   "a disk of no size cannot be made; write a number and a unit, as in 15GiB",
		"0.1":                    "a disk of no size cannot be made; write a number and a unit, as in 15GiB",
		"-1GiB":                  `"-1GiB" is no size` + form,
		"10,5GiB":                `"10,5GiB" is no size` + form,
		"3PiB":                   "3PiB is more than a disk can have, 2048TiB",
		"15EiB":                  "15EiB is more than a disk can have, 2048TiB",
		"ten":                    `"ten" is no size` + form,
		"GiB":                    `"GiB" is no size` + form,
		"10XB":                   `"10XB" is no size` + form,
		"1.2.3GB":                `"1.2.3GB" is no size` + form,
		"18446744073709551616":   `"18446744073709551616" is no size` + form,
		"99999999999999999999GB": `"99999999999999999999GB" is no size` + form,
	} {
		for _, config := range []string{oneDisk, `disk { size = "?" }`, `disk { pool = "remote" size = "?" }`} {
			r := newRequest(t, config)
			r.task.Disks[0].Size = size
			_, p := plan(r)
			if diff := cmp.Diff(problems{"config.disk[0].size: " + want}, p); diff != "" {
				t.Errorf("the problems of %s with size = %q (-want +got):\n%s", config, size, diff)
			}
		}
	}
}

func TestDiskIsNotLessThanItsSource(t *testing.T) {
	for _, size := range []string{"3221225471", "3GB", "1"} {
		for _, disk := range sized {
			r := newRequest(t, disk.config)
			r.task.Disks[0].Size = size
			want := problems{"config.disk[0].size: " + size + " is less than the " + disk.source +
				"'s virtual size of 3GiB; leave it out, or make it larger"}
			_, p := plan(r)
			if diff := cmp.Diff(want, p); diff != "" {
				t.Errorf("the problems of %s with size = %q (-want +got):\n%s", disk.config, size, diff)
			}
		}
	}
}

func TestPlanRefusesASourceThatIsTooLarge(t *testing.T) {
	for _, disk := range sized {
		for size, is := range map[vm.Bytes]string{4096 * tib: "4096TiB", 1<<64 - 1: "16777216.0TiB"} {
			for _, asked := range []string{"", "1PiB"} {
				r := ofSize(t, disk.config, size)
				r.task.Disks[0].Size = asked
				want := problems{"config.disk[0].source." + disk.source + ": its virtual size of " + is +
					" is more than a disk can have, 2048TiB"}
				_, p := plan(r)
				if diff := cmp.Diff(want, p); diff != "" {
					t.Errorf("the problems of %s with a source of %s and size = %q (-want +got):\n%s", disk.config, is, asked, diff)
				}
			}
		}
	}
}

func TestImpliedSizeThatIsLargeHasToBeSaid(t *testing.T) {
	for _, disk := range sized {
		mustPlan(t, ofSize(t, disk.config, 8*tib))

		r := ofSize(t, disk.config, 9*tib)
		want := problems{"config.disk[0].source." + disk.source + `: its virtual size is 9TiB; if that is meant, say so: size = "9895604649984"`}
		_, p := plan(r)
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("the problems of %s with a source of 9 TiB (-want +got):\n%s", disk.config, diff)
		}
		r.task.Disks[0].Size = "10TiB"
		if got := mustPlan(t, r).Disks[0].Volume.Size; got != 10*tib {
			t.Errorf("%s that is said to be of 10 TiB is of %s", disk.config, got)
		}
	}
}

// Who does what the refusal says is not refused again.
func TestSizeThatIsAdvisedIsTaken(t *testing.T) {
	advice := regexp.MustCompile(`size = "(.*)"$`)
	for _, size := range []vm.Bytes{9 * tib, 8*tib + 1, 8*tib + 512, 10_000_000_000_000, 2048*tib - 1, 2048 * tib} {
		r := ofSize(t, oneDisk, size)
		_, p := plan(r)
		if len(p) != 1 || !advice.MatchString(p[0]) {
			t.Fatalf("the problems of an image of %d bytes are %q, want one that ends in a size to write", size, p)
		}
		r.task.Disks[0].Size = advice.FindStringSubmatch(p[0])[1]
		if _, p := plan(r); len(p) != 0 {
			t.Errorf("an image of %d bytes: who writes size = %q as told is told %q", size, r.task.Disks[0].Size, p)
		}
	}
}
