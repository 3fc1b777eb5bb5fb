package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var shownPool = regexp.MustCompile(`directory "([^"]+)" \{\n\s*path = "([^"]+)"`)

// libvirt has one pool at a path: an operator who goes from one configuration that we
// show to another must not come to a second name for it.
func TestADirectoryHasOneNameInAllConfigurations(t *testing.T) {
	names := make(map[string]string)
	shown := make(map[string]bool)
	for _, pattern := range []string{"README.md", "docs/*.md", "examples/*.hcl", "lab/*.hcl"} {
		pages, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			content, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, pool := range shownPool.FindAllStringSubmatch(string(content), -1) {
				name, path := pool[1], pool[2]
				if before, is := names[path]; is && before != name {
					t.Errorf("%s calls the pool at %s %q, elsewhere it is %q", page, path, name, before)
				}
				names[path], shown[page] = name, true
			}
		}
	}
	// Those that operators copy name their pool.
	for _, page := range []string{"README.md", "docs/install.md", "docs/plugin-configuration.md", "examples/virt.hcl", "examples/client.nomad.hcl"} {
		if !shown[page] {
			t.Errorf("%s shows no pool", page)
		}
	}
}
