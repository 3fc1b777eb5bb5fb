//go:build lab

package rbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// These tests run inside the lab, on its Ceph:
// lab/lab ceph-start; lab/lab run go test -tags lab ./rbd

const cephConf = "/run/lab/ceph/ceph.conf"

// ceph returns the pool that the lab made for the driver.
func ceph(t *testing.T) Pool {
	t.Helper()
	key, err := os.ReadFile("/run/lab/ceph/nomad.key")
	if err != nil {
		t.Fatalf("the lab has no Ceph, run lab/lab ceph-start: %v", err)
	}
	return Pool{
		RBD: vm.RBD{Pool: "nomad-pool", Monitors: []string{"10.99.0.2:3300"}, User: "nomad"},
		Key: string(key),
	}
}

// admin runs a program of Ceph that may do all.
func admin(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, append([]string{"-c", cephConf}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, err, want error, says ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%v, want an error that is %q", err, want)
	}
	mustSay(t, err, says...)
}

func mustSay(t *testing.T, err error, says ...string) {
	t.Helper()
	for _, words := range says {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, want it to say %q", err, words)
		}
	}
}

// volumes returns names for volumes of this test, which are removed with it,
// the last first.
func volumes(t *testing.T, p Pool, names ...string) []string {
	t.Helper()
	for i, name := range names {
		names[i] = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + "-" + name
		t.Cleanup(func() {
			if err := p.Remove(context.Background(), names[i]); err != nil {
				t.Error(err)
			}
		})
	}
	return names
}

func mustHave(t *testing.T, p Pool, name string, want vm.Bytes) {
	t.Helper()
	if size, err := p.Size(t.Context(), name); err != nil || size != want {
		t.Errorf("%s has %d bytes, %v, want %d", name, size, err, want)
	}
}

// snapshotsOf lists the snapshots of a volume; with --all also those that Ceph
// keeps unseen.
func snapshotsOf(t *testing.T, name string, args ...string) string {
	t.Helper()
	return admin(t, "rbd", append([]string{"snap", "ls", "nomad-pool/" + name}, args...)...)
}

func TestVolumesOnCeph(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "a", "b", "with space")
	a, b, spaced := names[0], names[1], names[2]

	must(t, p.Create(ctx, a, vm.MiB+1))
	mustHave(t, p, a, vm.MiB+1)
	mustBe(t, p.Create(ctx, a, vm.MiB), ErrExist)
	must(t, p.Create(ctx, spaced, vm.MiB))

	must(t, p.Resize(ctx, a, 2*vm.MiB+1))
	must(t, p.Resize(ctx, a, 2*vm.MiB+1))
	mustHave(t, p, a, 2*vm.MiB+1)
	if err := p.Resize(ctx, a, vm.MiB); err == nil {
		t.Error("a volume was made smaller")
	}
	mustHave(t, p, a, 2*vm.MiB+1)

	must(t, p.Rename(ctx, a, b))
	mustHave(t, p, b, 2*vm.MiB+1)
	_, err := p.Size(ctx, a)
	mustBe(t, err, ErrNotExist)
	mustBe(t, p.Rename(ctx, a, b), ErrNotExist)
	mustBe(t, p.Rename(ctx, spaced, b), ErrExist)
	mustHave(t, p, b, 2*vm.MiB+1)
	mustHave(t, p, spaced, vm.MiB)
	mustBe(t, p.Resize(ctx, a, vm.GiB), ErrNotExist)

	listed, err := p.List(ctx)
	must(t, err)
	for name, want := range map[string]bool{a: false, b: true, spaced: true} {
		if slices.Contains(listed, name) != want {
			t.Errorf("%q, want %s in it: %t", listed, name, want)
		}
	}
	for range 2 {
		must(t, p.Remove(ctx, b))
		_, err := p.Size(ctx, b)
		mustBe(t, err, ErrNotExist)
	}
}

func TestOneOfManyRenamesToANameSucceeds(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	const hosts = 4
	for round := range 3 {
		names := volumes(t, p, fmt.Sprint("base", round), fmt.Sprint("a", round), fmt.Sprint("b", round), fmt.Sprint("c", round), fmt.Sprint("d", round))
		base, staged := names[0], names[1:]
		for i, name := range staged {
			must(t, p.Create(ctx, name, vm.Bytes(i+1)*vm.MiB))
		}
		var wait sync.WaitGroup
		errs := make([]error, hosts)
		for i, name := range staged {
			wait.Go(func() { errs[i] = p.Rename(ctx, name, base) })
		}
		wait.Wait()
		named := 0
		for i, err := range errs {
			if err == nil {
				named++
				mustHave(t, p, base, vm.Bytes(i+1)*vm.MiB)
				continue
			}
			mustBe(t, err, ErrExist)
			mustHave(t, p, staged[i], vm.Bytes(i+1)*vm.MiB)
		}
		if named != 1 {
			t.Errorf("%d of %d renames to one name succeeded, want 1: %v", named, hosts, errs)
		}
	}
}

func TestCloneLeavesNothingOnItsParent(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "base", "clone", "other", "second")
	base, clone, other, second := names[0], names[1], names[2], names[3]
	must(t, p.Create(ctx, base, 8*vm.MiB))

	mustBe(t, p.Clone(ctx, other, clone), ErrNotExist)
	must(t, p.Clone(ctx, base, clone))
	mustHave(t, p, clone, 8*vm.MiB)
	must(t, p.Resize(ctx, clone, 16*vm.MiB))
	mustHave(t, p, base, 8*vm.MiB)
	if got := snapshotsOf(t, base); strings.TrimSpace(got) != "" {
		t.Errorf("somebody's volume shows snapshots:\n%s", got)
	}
	if got := snapshotsOf(t, base, "--all"); !strings.Contains(got, "trash ("+clone+")") {
		t.Errorf("Ceph keeps\n%s, want the snapshot of the clone in the trash: else this test tells nothing", got)
	}

	mustBe(t, p.Clone(ctx, base, clone), ErrExist)
	if got := snapshotsOf(t, base); strings.TrimSpace(got) != "" {
		t.Errorf("a clone whose name was taken left snapshots:\n%s", got)
	}
	mustBe(t, p.Remove(ctx, base), ErrInUse, "nomad-pool/"+clone)
	mustHave(t, p, base, 8*vm.MiB)

	// A clone of a clone, and a base under another name.
	must(t, p.Clone(ctx, clone, second))
	must(t, p.Rename(ctx, base, other))
	mustBe(t, p.Remove(ctx, clone), ErrInUse, "nomad-pool/"+second)
	must(t, p.Remove(ctx, second))
	must(t, p.Remove(ctx, clone))
	if got := snapshotsOf(t, other, "--all"); strings.TrimSpace(got) != "" {
		t.Errorf("after its clones are gone Ceph keeps\n%s", got)
	}
	must(t, p.Remove(ctx, other))
}

func TestACloneShowsWhatTheVolumeHeld(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "base", "clone")
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	file := filepath.Join(t.TempDir(), "content")
	must(t, os.WriteFile(file, content, 0o600))
	admin(t, "rbd", "import", "--no-progress", file, "nomad-pool/"+names[0])
	must(t, p.Clone(ctx, names[0], names[1]))
	if got := admin(t, "rbd", "export", "--no-progress", "nomad-pool/"+names[1], "-"); got != string(content) {
		t.Errorf("the clone holds %d other bytes than the %d of its parent", len(got), len(content))
	}
}

func TestACloneThatWasCutOff(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "base", "clone")
	base, clone := names[0], names[1]
	must(t, p.Create(ctx, base, vm.MiB))
	admin(t, "rbd", "snap", "create", "nomad-pool/"+base+"@"+clone)
	for range 2 {
		must(t, p.Forget(ctx, base, clone))
		if got := snapshotsOf(t, base, "--all"); strings.TrimSpace(got) != "" {
			t.Errorf("after Forget there is\n%s", got)
		}
	}
	must(t, p.Forget(ctx, clone, base)) // a volume that is not there
	admin(t, "rbd", "snap", "create", "nomad-pool/"+base+"@"+clone)
	must(t, p.Clone(ctx, base, clone))
	if got := snapshotsOf(t, base); strings.TrimSpace(got) != "" {
		t.Errorf("after Clone there is\n%s", got)
	}
}

func TestRemoveTakesSnapshotsAlong(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "a", "old-clone")
	a, clone := names[0], names[1]
	spec := "nomad-pool/" + a
	must(t, p.Create(ctx, a, vm.MiB))
	admin(t, "rbd", "snap", "create", spec+"@one")
	admin(t, "rbd", "snap", "create", spec+"@two")
	admin(t, "rbd", "snap", "protect", spec+"@two")
	admin(t, "rbd", "clone", "--rbd-default-clone-format", "1", spec+"@two", "nomad-pool/"+clone)
	mustBe(t, p.Remove(ctx, a), ErrInUse, "nomad-pool/"+clone)
	must(t, p.Remove(ctx, clone))
	must(t, p.Remove(ctx, a))
	_, err := p.Size(ctx, a)
	mustBe(t, err, ErrNotExist)
}

func TestAVolumeThatIsOpenIsNotRemoved(t *testing.T) {
	t.Parallel() // it takes long
	p, ctx := ceph(t), t.Context()
	a := volumes(t, p, "a")[0]
	must(t, p.Create(ctx, a, vm.MiB))
	watch := exec.Command("rbd", "-c", cephConf, "watch", "nomad-pool/"+a)
	stdin, err := watch.StdinPipe() // it ends with its input
	must(t, err)
	defer stdin.Close()
	stdout, err := watch.StdoutPipe()
	must(t, err)
	must(t, watch.Start())
	_, err = stdout.Read(make([]byte, 1)) // "press enter to exit..."
	must(t, err)
	go io.Copy(io.Discard, stdout)

	mustBe(t, p.Remove(ctx, a), ErrOpen, "end the VM that uses it, or wait")
	mustHave(t, p, a, vm.MiB)
	must(t, watch.Process.Kill())
	_ = watch.Wait()
	mustBe(t, p.Remove(ctx, a), ErrOpen, "died less than 30 s ago")
	eventually(t, 60*time.Second, "it is removed when its client is known to be dead", func() bool { return p.Remove(ctx, a) == nil })
}

func eventually(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %s it does not hold: %s", limit, what)
		}
	}
}

func TestLastUse(t *testing.T) {
	p, ctx := ceph(t), t.Context()
	names := volumes(t, p, "a", "none")
	must(t, p.Create(ctx, names[0], vm.MiB))
	if at, err := p.Touched(ctx, names[0]); err != nil || !at.IsZero() {
		t.Errorf("%s, %v, want no time for one that was never used", at, err)
	}
	for _, want := range []time.Time{time.Unix(1_800_000_000, 0), time.Unix(1_800_000_060, 0)} {
		must(t, p.Touch(ctx, names[0], want))
		if at, err := p.Touched(ctx, names[0]); err != nil || !at.Equal(want) {
			t.Errorf("%s, %v, want %s", at, err, want)
		}
	}
	mustBe(t, p.Touch(ctx, names[1], time.Now()), ErrNotExist)
	_, err := p.Touched(ctx, names[1])
	mustBe(t, err, ErrNotExist)
}
