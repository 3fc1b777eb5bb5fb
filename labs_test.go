package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A test that was listed for two libvirts would run on none.
func TestEveryTestOfE2ERunsOnALibvirt(t *testing.T) {
	tests := testsOfE2E(t)
	text, err := os.ReadFile("e2e/labs.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(line, "#") {
			continue
		}
		if len(fields) != 2 || fields[0] != "9" && fields[0] != "11" {
			t.Errorf("e2e/labs.txt says %q, want 9 or 11 and a test", strings.TrimSpace(line))
			continue
		}
		libvirt, test := fields[0], fields[1]
		if !slices.Contains(tests, test) {
			t.Errorf("e2e/labs.txt lists %s, which is no test", test)
		}
		if before, is := listed[test]; is {
			t.Errorf("e2e/labs.txt lists %s for libvirt %s and for %s; leave it out to have it on both", test, before, libvirt)
		}
		listed[test] = libvirt
	}
}

func testsOfE2E(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range function.FindAllStringSubmatch(string(text), -1) {
			names = append(names, found[1])
		}
	}
	if len(names) == 0 {
		t.Fatal("e2e has no tests")
	}
	return names
}
