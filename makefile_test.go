package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Debian 12's own Go says that it does not understand go.mod, which helps nobody.
func TestMakeSaysWhichGoItTakes(t *testing.T) {
	for name, c := range map[string]struct {
		version string // what go version prints
		says    string // empty: it is taken
	}{
		"none":           {"", "there is no Go on the path; install one from https://go.dev/doc/install"},
		"Debian 12's":    {"go version go1.19.8 linux/amd64", "there is go1.19.8 linux/amd64; install one from https://go.dev/doc/install"},
		"of one digit":   {"go version go1.9 linux/amd64", "there is go1.9 linux/amd64; install one from"},
		"the first":      {"go version go1.21.0 linux/amd64", ""},
		"newer":          {"go version go1.30.1 linux/arm64", ""},
		"in development": {"go version devel go1.27-1b2c3d4 Mon Nov 2 linux/amd64", ""},
	} {
		t.Run(name, func(t *testing.T) {
			said, err := makeWith(t, c.version, "go")
			switch {
			case c.says == "" && (err != nil || said != ""):
				t.Errorf("make says %q (error %v), want it to take this Go", said, err)
			case c.says != "" && (err == nil || !strings.Contains(said, c.says)):
				t.Errorf("make says %q (error %v), want %q", said, err, c.says)
			}
		})
	}
}

// What builds something says so before anything else.
func TestMakeLooksAtGoFirst(t *testing.T) {
	for _, target := range []string{"dev", "build", "package", "demo", "setup", "test", "lint", "docs", "unit", "package-test", "fresh", "lab-test", "e2e", "bench"} {
		if said, err := makeWith(t, "go version go1.19.8 linux/amd64", target); err == nil || !strings.HasPrefix(said, "make: this takes Go 1.") {
			t.Errorf("make %s says first %q (error %v), want that Go is too old", target, said, err)
		}
	}
}

// makeWith is what make says where the only Go is one that prints this version.
func makeWith(t *testing.T, version, target string) (string, error) {
	t.Helper()
	programs := t.TempDir()
	for _, name := range []string{"bash", "sed", "id", "git", "echo"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(programs, name)); err != nil {
			t.Fatal(err)
		}
	}
	if version != "" {
		script := "#!/bin/bash\necho '" + version + "'\n"
		if err := os.WriteFile(filepath.Join(programs, "go"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path, err := exec.LookPath("make")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), path, "--no-print-directory", target)
	command.Env = []string{"PATH=" + programs, "HOME=" + t.TempDir()}
	said, err := command.CombinedOutput()
	return string(said), err
}
