package cloudinit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stubs puts programs in front of the PATH, each a shell script.
func stubs(t *testing.T, programs map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, script := range programs {
		if !strings.HasPrefix(script, "#!") {
			script = "#!/bin/sh\n" + script
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestMountShare(t *testing.T) {
	const mounts, fails = `echo mount "$@"`, `echo "mount: unknown filesystem type" >&2; exit 32`
	for name, c := range map[string]struct {
		mountpoint, mount string
		share, access     string
		stdout            string
		stderr            []string // what it must say
	}{
		"virtiofs": {
			mountpoint: "exit 1", mount: mounts, share: "virtiofs", access: "ro",
			stdout: "mount -t virtiofs -o ro the-tag DIR/a b\n",
		},
		"virtiofs that can be written": {
			mountpoint: "exit 1", mount: mounts, share: "virtiofs", access: "rw",
			stdout: "mount -t virtiofs -o rw the-tag DIR/a b\n",
		},
		"9p": {
			mountpoint: "exit 1", mount: mounts, share: "9p", access: "ro",
			stdout: "mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144 the-tag DIR/a b\n",
		},
		"9p that can be written": {
			mountpoint: "exit 1", mount: mounts, share: "9p", access: "rw",
			stdout: "mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=262144 the-tag DIR/a b\n",
		},
		"already mounted": {mountpoint: "exit 0", mount: mounts, share: "virtiofs", access: "rw"},
		"no virtiofs in the kernel": {
			mountpoint: "exit 1", mount: fails, share: "virtiofs", access: "ro",
			stderr: []string{"unknown filesystem type", "nomad-driver-virt: DIR/a b is not mounted", `mounts = "9p"`},
		},
		"no 9p in the kernel": {
			mountpoint: "exit 1", mount: fails, share: "9p", access: "rw",
			stderr: []string{"nomad-driver-virt: DIR/a b is not mounted", "may lack 9p"},
		},
	} {
		for shellName, shell := range shells {
			t.Run(name+"/"+shellName, func(t *testing.T) {
				dir := t.TempDir()
				stubs(t, map[string]string{"mountpoint": c.mountpoint, "mount": c.mount})
				argv := slices.Concat(shell, []string{"-c", mountShare, "mount-share", c.share, "the-tag", dir + "/a b", c.access})
				stdout, stderr := runShell(t, dir, argv...)
				if want := strings.ReplaceAll(c.stdout, "DIR", dir); stdout != want {
					t.Errorf("ran %q, want %q", stdout, want)
				}
				for _, want := range c.stderr {
					if want = strings.ReplaceAll(want, "DIR", dir); !strings.Contains(stderr, want) {
						t.Errorf("said %q, want %q in it", stderr, want)
					}
				}
				if c.stderr == nil && stderr != "" {
					t.Errorf("said %q, want nothing", stderr)
				}
			})
		}
	}
}

func TestShareEnvGivesTheDefaultUserTheEnvironment(t *testing.T) {
	const granted, private = "chgrp debian env.sh environment\n", ""
	for name, c := range map[string]struct {
		python, group string
		stdout        string
		mode          os.FileMode
	}{
		"a user with a group of its own": {python: "echo debian", group: "debian", stdout: granted, mode: 0o640},
		"a group shared with others":     {python: "echo debian", group: "users", stdout: private, mode: 0o600},
		"no default user":                {python: "echo", group: "", stdout: private, mode: 0o600},
		"no answer":                      {python: "echo Traceback >&2; exit 1", group: "", stdout: private, mode: 0o600},
	} {
		for shellName, shell := range shells {
			t.Run(name+"/"+shellName, func(t *testing.T) {
				dir := t.TempDir()
				for _, file := range []string{"env.sh", "environment"} {
					write(t, filepath.Join(dir, file), "")
				}
				stubs(t, map[string]string{
					"python":     `[ "$*" = "-sP -" ] || exit 1; cat >/dev/null; ` + c.python,
					"cloud-init": "#! /usr/bin/env python -sP\nprint()\n",
					"id":         "echo " + c.group,
					"chgrp":      `echo chgrp "$@"`,
				})
				stdout, stderr := runShell(t, dir, append(shell, "-c", shareEnv, "share-env", dir)...)
				if stdout != c.stdout || stderr != "" {
					t.Errorf("ran %q and said %q, want %q and nothing", stdout, stderr, c.stdout)
				}
				for _, file := range []string{"env.sh", "environment"} {
					info, err := os.Stat(filepath.Join(dir, file))
					if err != nil || info.Mode().Perm() != c.mode {
						t.Errorf("%s has mode %v, want %v (%v)", file, info.Mode(), c.mode, err)
					}
				}
			})
		}
	}
}
