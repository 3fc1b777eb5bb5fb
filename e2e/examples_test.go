//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// exampleGroup is examples that need the same things to be there.
type exampleGroup struct {
	name     string
	before   func(t *testing.T) // makes what the jobs' headers say that an operator makes
	stays    []string           // what is left when the jobs are purged, beside bases
	examples []example
}

// example is a job below examples/storage, which is submitted as it stands.
type example struct {
	file  string
	ports []string // default "http"
	path  string   // of the page, default "/"
	page  []string // what it has to say
	then  string   // another example, which finds what this one left
	alone bool     // needs all cores
}

var started = []string{"nomad-virt-task-"}

var exampleGroups = []exampleGroup{
	{
		name: "directory",
		before: func(t *testing.T) {
			volumeOfPool(t, "local", "golden.qcow2", "1GiB", "qcow2", imageDir+"/tiny.qcow2")
		},
		stays: []string{"golden.qcow2"},
		examples: []example{
			{file: "directory-grown", page: []string{"40G", "39G"}}, // Debian: the first, since it takes longest
			{file: "directory-image", page: []string{"vda", "50M"}},
			{file: "directory-chained", page: []string{"vda", "50M"}},
			{file: "directory-raw", page: []string{"vda", "50M"}},
			{file: "directory-raw-sparse", page: []string{"vda", "50M"}},
			{file: "directory-clone", page: []string{"vda", "1G"}},
			{file: "directory-clone-chained", page: []string{"vda", "50M"}},
			{file: "directory-two-disks", page: []string{"vda", "50M", "vdb", "100M", "/mnt"}},
			{file: "directory-two-tasks", ports: []string{"blue", "green"}, page: []string{"vda", "50M"}, alone: true},
		},
	},
	{
		name: "ceph",
		before: func(t *testing.T) {
			startCeph(t)
			volumeOfCeph(t, "golden", imageDir+"/tiny.qcow2")
		},
		stays: []string{"golden"},
		examples: []example{
			{file: "ceph-image", page: []string{"vda", "50M"}},
			{file: "ceph-chained", page: []string{"vda", "50M"}},
			{file: "ceph-grown", page: []string{"vda", "40G"}},
			{file: "ceph-clone", page: []string{"vda", "1G"}},
			{file: "ceph-clone-chained", page: []string{"vda", "50M"}},
			{file: "ceph-two-tasks", ports: []string{"blue", "green"}, page: []string{"vda", "50M"}, alone: true},
		},
	},
	{
		name: "volume",
		before: func(t *testing.T) {
			for _, name := range []string{"directory", "disk", "boot"} {
				nomadVolumeOf(t, "../examples/storage/"+name+".volume.hcl")
			}
			volumesReady(t)
		},
		stays: []string{"directory", "disk", "boot", loopDir},
		examples: []example{
			{file: "volume-boot", path: "/starts", page: started, then: "volume-boot-again"},
			{file: "volume-directory", path: "/starts", page: started},
			{file: "volume-disk", path: "/starts", page: started},
		},
	},
}

func TestEveryStorageExampleIsTested(t *testing.T) {
	var tested []string
	for _, group := range exampleGroups {
		for _, e := range group.examples {
			tested = append(tested, e.file, e.then)
		}
	}
	files, err := filepath.Glob("../examples/storage/*.nomad.hcl")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no examples (error %v)", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".nomad.hcl")
		if !slices.Contains(tested, name) {
			t.Errorf("example %s is in no test", name)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(text), "# ") || !strings.Contains(string(text), "job \""+name+"\" {") {
			t.Errorf("example %s does not begin with what it shows, or its job is not named after it", name)
		}
	}
}

// The examples of a group run beside each other, as many as the host has cores:
// each of their VMs has one.
func TestStorageExamplesRunAsTheyStand(t *testing.T) {
	for _, group := range exampleGroups {
		t.Run(group.name, func(t *testing.T) {
			group.before(t)
			t.Run("jobs", func(t *testing.T) {
				for _, e := range group.examples {
					t.Run(e.file, func(t *testing.T) {
						if !e.alone {
							t.Parallel()
						}
						e.run(t)
					})
				}
			})
			nothingLeft(t, group.stays...)
		})
	}
}

func (e example) run(t *testing.T) {
	t.Helper()
	first := e.pages(t, e.file)
	if e.then == "" {
		return
	}
	if second := e.pages(t, e.then); !strings.HasPrefix(second, first) || second == first {
		t.Errorf("the page of %s is\n%s\nwant it to go on from what %s left\n%s", e.then, second, e.file, first)
	}
}

// pages runs a job of the example to its end, and returns its last page.
func (e example) pages(t *testing.T, file string) (got string) {
	t.Helper()
	j := submitFile(t, file, "../examples/storage/"+file+".nomad.hcl")
	a := j.waitRunning()
	ports, path := e.ports, e.path
	if len(ports) == 0 {
		ports = []string{"http"}
	}
	if path == "" {
		path = "/"
	}
	for _, port := range ports {
		got = page(t, debianTimeout, a.url(t, port, path))
		for _, want := range e.page {
			if !strings.Contains(got, want) {
				t.Errorf("the page of %s on port %s does not say %q:\n%s", file, port, want, got)
			}
		}
	}
	j.purge()
	return got
}
