//go:build lab

package portmap

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

// breakIP6tables has the program fail, as it does where another holds its lock, until
// the function is called that it returns. The program tells in a file that it was run.
func breakIP6tables(t *testing.T) (mend func(), told string) {
	t.Helper()
	dir, usual := t.TempDir(), os.Getenv("PATH")
	told = filepath.Join(dir, "told")
	script := "#!/bin/sh\necho run >>" + told + "\necho 'resource problem' >&2\nexit 4\n"
	mustDo(t, os.WriteFile(filepath.Join(dir, "ip6tables"), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+usual)
	return func() { mustDo(t, os.Setenv("PATH", usual)) }, told
}

func mustTell(t *testing.T, err error, what string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), what) {
		t.Errorf("error is %v, want one with %q", err, what)
	}
}

func TestTroubleWithIPv6IsNoneOfIPv4(t *testing.T) {
	table := newTable(t, "a", "b", "six", "both")
	mustDo(t, publish(t, table, publication("six", "two", "[fd99::2]:20001")))
	mend, _ := breakIP6tables(t)

	mustDo(t, publish(t, table, publication("a", "one", "10.99.0.2:20000")))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustDo(t, publishAll(t, table, dual("b", "two", "20002")...))
	mustAnswer(t, "far", "10.99.0.2:20002", "two 10.99.0.1")
	mustRefuse(t, "far", "[fd99::2]:20002")
	mustTell(t, publishAll(t, table, bothChosen("both", "one", "20003")...), "resource problem")
	mustRefuse(t, "far", "10.99.0.2:20003")

	mustDo(t, table.Withdraw(t.Context(), "a"))
	mustRefuse(t, "far", "10.99.0.2:20000")
	mustTell(t, table.Withdraw(t.Context(), "six"), "resource problem")
	mustRefuse(t, "far", "[fd99::2]:20001")

	mend()
	restore(t, table, dual("b", "two", "20002")...)
	mustAnswer(t, "far", "[fd99::2]:20002", "two fd99::1")
}

func TestPortBesideOfAVersionInTroubleIsLeft(t *testing.T) {
	table := newTable(t, "a")
	breakIP6tables(t)
	mustDo(t, publishAll(t, table, dual("a", "one", "20000")...))
	mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
	mustRefuse(t, "far", "[fd99::2]:20000")
	mustDo(t, table.Withdraw(t.Context(), "a"))
}

// bothChosen are a VM's publications of one port on addresses of both versions of IP,
// both of which Nomad chose.
func bothChosen(name, guest, port string) []vm.Publication {
	return []vm.Publication{publication(name, guest, "10.99.0.2:"+port), publication(name, guest, "[fd99::2]:"+port)}
}

func TestRuleThatCouldNotBeRemovedIsRemovedLater(t *testing.T) {
	table := newTable(t)
	mustDo(t, publish(t, table, publication("six", "two", "[fd99::2]:20001")))
	mend, _ := breakIP6tables(t)
	mustTell(t, table.Withdraw(t.Context(), "six"), "resource problem")
	mend()
	restore(t, table)
}

func TestVersionOfIPThatNobodyUsesIsAskedAboutOnce(t *testing.T) {
	table := newTable(t, "a")
	_, told := breakIP6tables(t)
	a := publication("a", "one", "10.99.0.2:20000")
	for range 2 {
		mustDo(t, publish(t, table, a))
		restore(t, table, a)
		mustDo(t, table.Withdraw(t.Context(), "a"))
	}
	if runs, _ := os.ReadFile(told); string(runs) != "run\n" {
		t.Errorf("ip6tables was run %d times, want once", strings.Count(string(runs), "\n"))
	}
}

func TestRestorePutsIPv4RightWhileIPv6IsInTrouble(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T) (mend func())
		want string
	}{
		"ip6tables fails": {func(t *testing.T) func() { mend, _ := breakIP6tables(t); return mend }, "resource problem"},
		"the host forwards no IPv6": {func(t *testing.T) func() {
			must(t, "echo 0 >"+forwarding)
			return func() { must(t, "echo 1 >"+forwarding) }
		}, "net.ipv6.conf.all.forwarding=1"},
	} {
		t.Run(name, func(t *testing.T) {
			table := newTable(t, "a")
			a := bothChosen("a", "one", "20000")
			mustDo(t, publishAll(t, table, a...))
			mend := c.harm(t)
			defer mend()
			expect := func(want ...string) {
				t.Helper()
				restored, err := table.Restore(t.Context(), func() []vm.Publication { return a }, nobody)
				mustTell(t, err, c.want)
				if got := namesOf(restored); !slices.Equal(got, want) {
					t.Errorf("%v were put right, want %v", got, want)
				}
			}
			must(t, "nft delete table inet nomad_virt")
			expect("a")
			mustAnswer(t, "far", "10.99.0.2:20000", "one 10.99.0.1")
			before := must(t, ruleHandles)
			expect()
			if after := must(t, ruleHandles); after != before {
				t.Error("rules were written though nothing more could be put right")
			}
			mend()
			restore(t, table, a...)
			mustAnswer(t, "far", "[fd99::2]:20000", "one fd99::1")
		})
	}
}
