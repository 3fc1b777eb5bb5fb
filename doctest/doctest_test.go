package doctest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPageIsWrittenBetweenItsMarks(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	const before, after = "# Page\n\n<!-- a table: written by go test -update -->\n", "<!-- end -->\n\nThe rest.\n"
	if err := os.WriteFile(page, []byte(before+after), 0o600); err != nil {
		t.Fatal(err)
	}
	table := Section{Name: "a table", Text: Messages([]Message{{Said: "a|b: `x`", Why: "one\ntwo"}})}
	Page(t, page, true, table)
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := before + "\n| it says | what it means, and what to do |\n|---|---|\n| `` a\\|b: `x` `` | one two |\n\n" + after
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("the page (-want +got):\n%s", diff)
	}
	Page(t, page, false, table) // what it wrote is what it wants
}

func TestTextsAreFoundWhereverTheyStand(t *testing.T) {
	dir := t.TempDir()
	const source = `package p

import "fmt"

func f(path string, p *problems) error {
	p.addf(path+".size", "%q is no size; "+advice+" 100%%", path)
	return fmt.Errorf("a %d"+
		" and b: %w", 1, nil)
}
`
	for name, content := range map[string]string{"p.go": source, "p_test.go": "package p\n\nvar _ = fmt.Errorf(\"of a test\")\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	formats := func(function string, from int) (all []string) {
		for _, x := range Texts(t, function, from, dir) {
			all = append(all, x.Format)
		}
		return all
	}
	if diff := cmp.Diff([]string{"a %d and b: %w"}, formats("Errorf", 0)); diff != "" {
		t.Errorf("the texts of Errorf (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"%q is no size; %s 100%%"}, formats("addf", 1)); diff != "" {
		t.Errorf("the texts of addf (-want +got):\n%s", diff)
	}
}

func TestPatternOfAFormatMatchesWhatItBecomes(t *testing.T) {
	x := Text{Format: "%q is (%d%% of) %.1f; %s"}
	if said := `"a" is (5% of) 0.3; x`; !x.Pattern().MatchString(said) {
		t.Errorf("%s does not match %q", x.Pattern(), said)
	}
	if said := `"a" is (5% of 0.3; x`; x.Pattern().MatchString(said) {
		t.Errorf("%s matches %q", x.Pattern(), said)
	}
	if want := "… is (…% of) …; …"; x.Shown() != want {
		t.Errorf("it is shown as %q, want %q", x.Shown(), want)
	}
}
