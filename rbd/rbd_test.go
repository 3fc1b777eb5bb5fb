package rbd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

const key = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="

var pool = Pool{
	RBD: vm.RBD{Pool: "vms", Monitors: []string{"10.0.0.1:3300", "[fd99::2]:6789"}, User: "nomad"},
	Key: key + "\n",
}

// answers puts programs in place of rbd and ceph. They log the arguments that
// are not about the connection, and answer a call that begins with the words of
// a pattern by the shell commands beside it.
func answers(t *testing.T, byArgs ...[2]string) (calls func() []string) {
	t.Helper()
	dir := t.TempDir()
	var script strings.Builder
	fmt.Fprintf(&script, "#!/bin/sh\nwhile [ \"${1#--}\" != \"$1\" ]; do shift; done\necho \"${0##*/} $*\" >>%s/calls\n", dir)
	fmt.Fprintf(&script, "fail() { echo \"$2\" >&2; exit \"$1\"; }\ncase \"${0##*/} $*\" in\n")
	for _, a := range byArgs {
		fmt.Fprintf(&script, "%s*) %s ;;\n", strings.ReplaceAll(a[0], " ", `\ `), a[1])
	}
	script.WriteString("esac\n")
	for _, program := range []string{"rbd", "ceph"} {
		if err := os.WriteFile(filepath.Join(dir, program), []byte(script.String()), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return func() []string {
		log, err := os.ReadFile(filepath.Join(dir, "calls"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(log), "\n"), "\n")
	}
}

const (
	noVolume  = `fail 2 "rbd: error opening image a: (2) No such file or directory"`
	linked    = `fail 39 "rbd: image has snapshots with linked clones - these must be deleted or flattened before the image can be removed."`
	snapshots = `fail 39 "rbd: image has snapshots - these must be deleted with 'rbd snap purge' before the image can be removed."`
)

// once has a program answer as it says the first time only.
func once(t *testing.T, command string) string {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "answered")
	return fmt.Sprintf("[ -e %s ] || { : >%s; %s; }", mark, mark, command)
}

func TestWhatRbdIsAsked(t *testing.T) {
	at := time.Date(2026, 11, 24, 5, 30, 0, 0, time.FixedZone("", 3600))
	for _, test := range []struct {
		name    string
		do      func(ctx context.Context) error
		answers [][2]string
		want    []string
	}{
		{
			"a size is given in bytes, which rbd would take for MiB",
			func(ctx context.Context) error { return pool.Create(ctx, "a", 1<<20+1) },
			nil, []string{"rbd create --size 1048577B vms/a"},
		},
		{
			"growing",
			func(ctx context.Context) error { return pool.Resize(ctx, "a", vm.GiB) },
			nil, []string{"rbd resize --no-progress --size 1073741824B vms/a"},
		},
		{
			"a volume that has that size already is left alone",
			func(ctx context.Context) error { return pool.Resize(ctx, "a", vm.GiB) },
			[][2]string{{"rbd resize", `fail 22 "rbd: new size is equal to original size "`}},
			[]string{"rbd resize --no-progress --size 1073741824B vms/a"},
		},
		{
			"whether a volume was renamed is seen by its old name",
			func(ctx context.Context) error { return pool.Rename(ctx, "a", "b") },
			[][2]string{{"rbd info", noVolume}},
			[]string{"rbd rename vms/a vms/b", "rbd info --format json vms/a"},
		},
		{
			"a clone leaves no snapshot",
			func(ctx context.Context) error { return pool.Clone(ctx, "base", "a") },
			nil, []string{
				"rbd snap create vms/base@a",
				"rbd clone --rbd-default-clone-format 2 vms/base@a vms/a",
				"rbd snap rm --no-progress vms/base@a",
			},
		},
		{
			"a snapshot that an earlier clone left is not taken for what the volume holds",
			func(ctx context.Context) error { return pool.Clone(ctx, "base", "a") },
			[][2]string{{"rbd snap create", once(t, `fail 17 "rbd: failed to create snapshot: (17) File exists"`)}},
			[]string{
				"rbd snap create vms/base@a",
				"rbd snap rm --no-progress vms/base@a",
				"rbd snap create vms/base@a",
				"rbd clone --rbd-default-clone-format 2 vms/base@a vms/a",
				"rbd snap rm --no-progress vms/base@a",
			},
		},
		{
			"forgetting a snapshot that is not there",
			func(ctx context.Context) error { return pool.Forget(ctx, "base", "a") },
			[][2]string{{"rbd snap rm", `fail 2 "rbd: failed to remove snapshot: (2) No such file or directory"`}},
			[]string{"rbd snap rm --no-progress vms/base@a"},
		},
		{
			"a volume is removed at once",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			nil, []string{"rbd rm --no-progress vms/a"},
		},
		{
			"a volume that is not there",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{{"rbd rm", `fail 2 "rbd: delete error: (2) No such file or directory"`}, {"rbd info", noVolume}},
			[]string{"rbd rm --no-progress vms/a", "rbd info --format json vms/a"},
		},
		{
			"a volume goes with its snapshots",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{
				{"rbd rm", once(t, snapshots)},
				{"rbd snap ls", `echo '[{"name":"one","protected":"false"},{"name":"two","protected":"true"}]'`},
			},
			[]string{
				"rbd rm --no-progress vms/a",
				"rbd snap ls --format json vms/a",
				"rbd snap unprotect vms/a@two",
				"rbd snap purge --no-progress vms/a",
				"rbd rm --no-progress vms/a",
			},
		},
		{
			"a time is noted in UTC",
			func(ctx context.Context) error { return pool.Touch(ctx, "a", at) },
			nil, []string{"rbd image-meta set vms/a nomad-driver-virt.used 2026-11-24T04:30:00Z"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := answers(t, test.answers...)
			if err := test.do(t.Context()); err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(test.want, calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

// A snapshot may be another host's, or of who wants to keep the volume.
func TestVolumeWithSnapshotsIsNotUnused(t *testing.T) {
	for name, answer := range map[string]string{"with snapshots": snapshots, "with clones": linked} {
		calls := answers(t, [2]string{"rbd rm", answer})
		if err := pool.RemoveUnused(t.Context(), "a"); !errors.Is(err, ErrInUse) {
			t.Errorf("a volume %s: %v, want that it is in use", name, err)
		}
		if diff := cmp.Diff([]string{"rbd rm --no-progress vms/a"}, calls()); diff != "" {
			t.Errorf("a volume %s, calls (-want +got):\n%s", name, diff)
		}
	}
	answers(t, [2]string{"rbd rm", `fail 2 "rbd: delete error: (2) No such file or directory"`}, [2]string{"rbd info", noVolume})
	if err := pool.RemoveUnused(t.Context(), "a"); err != nil {
		t.Errorf("a volume that is not there: %v", err)
	}
}

func TestWhatRbdAnswers(t *testing.T) {
	answers(t,
		[2]string{"rbd info", `echo '{"name":"a","size":1048577,"objects":1}'`},
		[2]string{"rbd ls", `echo '["a","b c"]'`},
		[2]string{"rbd image-meta list", `echo '{"nomad-driver-virt.used":"2026-11-24T04:30:00Z"}'`},
	)
	ctx := t.Context()
	if size, err := pool.Size(ctx, "a"); err != nil || size != 1048577 {
		t.Errorf("Size: %d, %v, want 1048577", size, err)
	}
	if names, err := pool.List(ctx); err != nil || !cmp.Equal(names, []string{"a", "b c"}) {
		t.Errorf("List: %q, %v, want a and b c", names, err)
	}
	want := time.Date(2026, 11, 24, 4, 30, 0, 0, time.UTC)
	if at, err := pool.Touched(ctx, "a"); err != nil || !at.Equal(want) {
		t.Errorf("Touched: %s, %v, want %s", at, err, want)
	}
}

func TestErrorsTellWhatAVolumeIs(t *testing.T) {
	for _, test := range []struct {
		name    string
		do      func(ctx context.Context) error
		answers [][2]string
		is      error
		says    string
	}{
		{
			"the name is taken",
			func(ctx context.Context) error { return pool.Create(ctx, "a", vm.GiB) },
			[][2]string{{"rbd create", `fail 17 "rbd: create error: (17) File exists"`}},
			ErrExist, "creating volume a of 1GiB: Ceph pool vms: there is a volume of that name already",
		},
		{
			"the name is taken while rbd takes it",
			func(ctx context.Context) error { return pool.Rename(ctx, "a", "b") },
			[][2]string{{"rbd info", `echo '{"size":1}'`}},
			ErrExist, "renaming volume a to b: Ceph pool vms: there is a volume of that name already",
		},
		{
			"no volume",
			func(ctx context.Context) error { _, err := pool.Size(ctx, "a"); return err },
			[][2]string{{"rbd info", noVolume}},
			ErrNotExist, "looking up volume a: Ceph pool vms: there is no such volume",
		},
		{
			"nothing to clone",
			func(ctx context.Context) error { return pool.Clone(ctx, "a", "b") },
			[][2]string{{"rbd snap create", noVolume}},
			ErrNotExist, "cloning volume a as b: Ceph pool vms: there is no such volume",
		},
		{
			"a full pool of which nothing was ever removed",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{
				{"rbd rm", `fail 2 "rbd: delete error: (2) No such file or directory"`},
				{"rbd info", `echo '{"size":1}'`},
				{"ceph osd dump", `echo '{"pools":[{"pool_name":"vms","flags_names":"hashpspool,full"}]}'`},
			},
			ErrFull, "removing volume a: Ceph pool vms is full, and takes no more data; remove volumes, or add OSDs",
		},
		{
			"clones live",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{
				{"rbd rm", linked},
				{"rbd children", `echo '[{"pool":"vms","image":"d"},{"pool":"vms","image":"c"},{"pool":"vms","image":"e"},{"pool":"vms","image":"f"},{"pool":"vms","image":"g"}]'`},
			},
			ErrInUse, "removing volume a: Ceph pool vms: clones of it are in use: vms/c, vms/d, vms/e, 2 more; remove those first",
		},
		{
			"clones that nobody can list",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{{"rbd rm", linked}, {"rbd children", "exit 1"}},
			ErrInUse, "removing volume a: Ceph pool vms: clones of it are in use",
		},
		{
			"a protected snapshot that has clones",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{
				{"rbd rm", snapshots},
				{"rbd snap ls", `echo '[{"name":"two","protected":"true"}]'`},
				{"rbd snap unprotect", `fail 16 "rbd: unprotecting snap failed: (16) Device or resource busy"`},
				{"rbd children", `echo '[{"pool":"other","image":"d"},{"pool":"vms","image":"e","trash":true}]'`},
			},
			ErrInUse, "removing the snapshots of volume a: Ceph pool vms: clones of it are in use: other/d, vms/e (in the trash); remove those first",
		},
		{
			"a VM runs, or its client has died just now",
			func(ctx context.Context) error { return pool.Remove(ctx, "a") },
			[][2]string{{"rbd rm", `fail 16 "rbd: error: image still has watchers
This means the image is still open or the client using it crashed. Try again after closing/unmapping it or waiting 30s for the crashed client to timeout."`}},
			ErrOpen, "removing volume a: Ceph pool vms: a client has it open, or died less than 30 s ago; end the VM that uses it, or wait",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			answers(t, test.answers...)
			err := test.do(t.Context())
			if !errors.Is(err, test.is) {
				t.Errorf("%v, want an error that is %q", err, test.is)
			}
			if err != nil && err.Error() != test.says {
				t.Errorf("it says\n%s, want\n%s", err, test.says)
			}
		})
	}
}

func TestASmallerSizeIsRefused(t *testing.T) {
	answers(t, [2]string{"rbd resize", `fail 22 "rbd: shrinking an image is only allowed with the --allow-shrink flag"`})
	err := pool.Resize(t.Context(), "a", vm.MiB)
	if err == nil || !strings.Contains(err.Error(), "growing volume a to 1MiB: Ceph pool vms: rbd failed (status 22): rbd: shrinking") {
		t.Errorf("%v, want what rbd says", err)
	}
}

func TestANameThatRbdWouldReadOtherwiseIsRefused(t *testing.T) {
	for _, name := range []string{"", "space/a", "a@b", "/"} {
		calls := answers(t)
		for what, err := range map[string]error{
			"Remove": pool.Remove(t.Context(), name),
			"Clone":  pool.Clone(t.Context(), "a", name),
			"Rename": pool.Rename(t.Context(), "a", name),
			"Forget": pool.Forget(t.Context(), name, "a"),
		} {
			if err == nil || !strings.Contains(err.Error(), "must not be empty, or have / or @ in it") {
				t.Errorf("%s of %q: %v, want a refusal", what, name, err)
			}
		}
		if got := calls(); len(got) != 1 || got[0] != "" {
			t.Errorf("%q: rbd was called all the same: %q", name, got)
		}
	}
}

func TestAPoolPrintsNoKey(t *testing.T) {
	inside := struct{ P Pool }{pool}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, value := range []any{pool, &pool, inside} {
			printed := fmt.Sprintf(verb, value)
			if strings.Contains(printed, key) || strings.Contains(printed, fmt.Sprintf("%x", key)) {
				t.Errorf("%s of %T prints its key", verb, value)
			}
		}
	}
	if encoded, err := json.Marshal(pool); err != nil || strings.Contains(string(encoded), key) {
		t.Errorf("JSON, %v, has the key in it: %s", err, encoded)
	}
}
