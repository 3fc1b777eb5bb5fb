// Package doctest keeps pages of the documentation true: tests write parts of
// them, as they write golden files, and fail where a page says something else. It
// is for tests alone.
package doctest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Section is a part of a page that is written by a test.
type Section struct{ Name, Text string }

// Page compares parts of a page with what they have to be, or writes them. Each
// stands between two marks, which the page has.
func Page(t *testing.T, page string, update bool, sections ...Section) {
	t.Helper()
	if update {
		defer locked(t, page)()
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := string(content)
	for _, s := range sections {
		begin := fmt.Sprintf("<!-- %s: written by go test -update -->\n", s.Name)
		const end = "<!-- end -->"
		before, rest, begins := strings.Cut(want, begin)
		_, after, ends := strings.Cut(rest, end)
		if !begins || !ends {
			t.Errorf("%s has no part between these lines:\n%s%s", page, begin, end)
			continue
		}
		want = before + begin + "\n" + s.Text + "\n" + end + after
	}
	if update {
		write(t, page, want)
		return
	}
	if diff := cmp.Diff(want, string(content)); diff != "" {
		t.Errorf("%s is not what the code says (-want +got; go test -update rewrites it, read the difference):\n%s", page, diff)
	}
}

// locked keeps the tests of other packages from writing the page meanwhile.
func locked(t *testing.T, page string) (unlock func()) {
	t.Helper()
	dir, err := os.Open(filepath.Dir(page))
	if err == nil {
		err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { dir.Close() }
}

// write has a reader see the whole page, old or new.
func write(t *testing.T, page, content string) {
	t.Helper()
	next := page + ".next"
	err := os.WriteFile(next, []byte(content), 0o644)
	if err == nil {
		err = os.Rename(next, page)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Message is what a user may meet, and what is to be known about it.
type Message struct {
	Said string // by the code
	Why  string // what has happened, and what to do beyond what is said
}

// Messages is a table of them.
func Messages(all []Message) string {
	var b strings.Builder
	b.WriteString("| it says | what it means, and what to do |\n|---|---|\n")
	for _, m := range all {
		fmt.Fprintf(&b, "| %s | %s |\n", Code(m.Said), Cell(m.Why))
	}
	return b.String()
}

// Code has a text stand as it is in a cell of a table.
func Code(text string) string {
	if strings.Contains(text, "`") {
		return "`` " + Cell(text) + " ``"
	}
	return "`" + Cell(text) + "`"
}

// Cell has a text stand in a cell of a table.
func Cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
