package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading      = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	codeBlock    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inHeadings   = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// Links between the pages lead somewhere, and so do those to a heading.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := markdownPages(t)
	linked := make(map[string]bool)
	for page, text := range pages {
		for _, link := range markdownLink.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			linked[path] = true
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: the link %s leads nowhere: %v", page, link[1], err)
			} else if anchor != "" && !slices.Contains(anchors(pages[path]), anchor) {
				t.Errorf("%s: the link %s leads to no heading; %s has %q", page, link[1], path, anchors(pages[path]))
			}
		}
	}
	for page := range pages {
		if strings.HasPrefix(page, "docs/") && !linked[page] {
			t.Errorf("nothing leads to %s: add it to docs/README.md", page)
		}
	}
	examples, err := filepath.Glob("examples/*/*.hcl")
	if err != nil || len(examples) == 0 {
		t.Fatalf("there are no examples (error %v)", err)
	}
	for _, example := range examples {
		if !linked[example] {
			t.Errorf("nothing leads to %s: add it to examples/README.md", example)
		}
	}
}

// markdownPages are the pages by their paths, without their blocks of code.
func markdownPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".md" {
			return err
		}
		content, err := os.ReadFile(path)
		pages[path] = codeBlock.ReplaceAllString(string(content), "")
		return err
	})
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are no pages (error %v)", err)
	}
	return pages
}

// anchors are those of a page's headings, as GitHub and others make them.
func anchors(text string) (all []string) {
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		words := inHeadings.ReplaceAllString(strings.ToLower(h[1]), "")
		all = append(all, strings.ReplaceAll(strings.TrimSpace(words), " ", "-"))
	}
	return all
}
