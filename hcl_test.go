package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"nomad-driver-virt/doctest"
)

// shownBlock is a block that is written on one line, as people copy it.
var shownBlock = regexp.MustCompile("[a-z_]+(?: \"[^\"]*\")? \\{ [^`]*\\}")

// A block on one line may have one attribute, and no block: HCL refuses others in a
// job file. Agents' files, in which it does not, have a page of their own.
func TestBlocksThatAreShownCanBeCopied(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("there are no pages (error %v)", err)
	}
	found := 0
	for _, page := range append(pages, "README.md", "examples/README.md") {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, span := range regexp.MustCompile("`[^`\n]+`").FindAllString(string(content), -1) {
			shown := shownBlock.FindString(span)
			if shown == "" || ofAgent.MatchString(span) {
				continue
			}
			found++
			if wrong := parses(shown); wrong != nil {
				t.Errorf("%s shows %s, which no job file can have: %s", page, shown, wrong)
			}
		}
	}
	if found < 5 {
		t.Errorf("the pages show %d blocks on one line, want 5 at least: are they not seen?", found)
	}
}

// ofAgent tells what is about the configuration of agents.
var ofAgent = regexp.MustCompile(`\b(?:provider|storage_pools|client|plugin|directory|ceph)\b`)

// What the driver tells authors of jobs to write can be copied, too.
func TestBlocksThatAreAdvisedCanBeCopied(t *testing.T) {
	for _, function := range []string{"addf", "Errorf", "Sprintf"} {
		for _, text := range doctest.Texts(t, function, 0, "driver", "storage") {
			shown := shownBlock.FindString(text.Shown())
			if shown == "" || ofAgent.MatchString(text.Format) {
				continue
			}
			if wrong := parses(strings.ReplaceAll(shown, "…", `""`)); wrong != nil {
				t.Errorf("%s advises %s, which no job file can have: %s", text.Place, shown, wrong)
			}
		}
	}
}

func parses(block string) error {
	if _, wrong := hclsyntax.ParseConfig([]byte(strings.ReplaceAll(block, "= …", `= ""`)), "shown.hcl", hcl.InitialPos); wrong.HasErrors() {
		return wrong
	}
	return nil
}
