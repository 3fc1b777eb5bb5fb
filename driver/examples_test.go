package driver

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/jobspec2"

	"nomad-driver-virt/doctest"
)

// inNoExample are attributes that no example has, and why.
var inNoExample = map[string]string{
	"disk.driver":       "it has one value, which is what it is if it is left out",
	"image":             "an old name",
	"primary_disk_size": "an old name",
	"use_thin_copy":     "an old name",
}

func TestEveryAttributeIsInAnExample(t *testing.T) {
	shown := make(map[string]string) // by which example
	for _, path := range doctest.Examples(t, "..") {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		job, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: path, Body: body, Strict: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range job.TaskGroups {
			for _, task := range group.Tasks {
				for _, attribute := range attributesIn(task.Config, "") {
					shown[attribute] = path
				}
			}
		}
	}
	kinds := make(map[string]string)
	kindsOf(taskConfigSpec, "", kinds)
	for attribute := range kinds {
		why, left := inNoExample[attribute]
		switch path, is := shown[attribute]; {
		case is && left:
			t.Errorf("%s has %s: take it off the list of what no example has (%s)", path, attribute, why)
		case !is && !left:
			t.Errorf("no example has %s: put it into one where it makes sense, or say why not", attribute)
		}
	}
	for attribute := range inNoExample {
		if kinds[attribute] == "" {
			t.Errorf("%s is on the list of what no example has, and not in the schema", attribute)
		}
	}
}

// attributesIn lists the attributes and the blocks that a block holds, by their paths
// in the schema.
func attributesIn(block map[string]any, below string) (all []string) {
	for name, value := range block {
		path := strings.TrimPrefix(below+"."+name, ".")
		all = append(all, path)
		blocks, _ := value.([]map[string]any)
		for _, inner := range blocks {
			all = append(all, attributesIn(inner, path)...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
