package rbd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestProgramsAreToldOfTheClusterByArgumentsAlone(t *testing.T) {
	want := []string{
		"--conf=/dev/null", "--mon-host=10.0.0.1:3300,[fd99::2]:6789", "--id=nomad", "--keyfile=/proc/self/fd/3",
		"--client-mount-timeout=10", "--rados-mon-op-timeout=10", "--rados-osd-op-timeout=30",
		"--log-to-stderr=false", "--err-to-stderr=false",
	}
	if diff := cmp.Diff(want, pool.connection()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestTheKeyIsInDescriptor3Alone(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CEPH_ARGS", "--id=somebody")
	t.Setenv("A_KEY", key)
	// The library reads the file more than once.
	answers(t, [2]string{"rbd ls", "env >" + dir + "/env; cat /proc/self/fd/3 /proc/self/fd/3 >" + dir + "/key; tr '\\0' ' ' </proc/$$/cmdline >" + dir + "/argv; echo '[]'"})
	if _, err := pool.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "key"); got != key+key {
		t.Errorf("read twice, descriptor 3 has %q, want the key twice", got)
	}
	if got := content(t, dir, "argv"); !strings.Contains(got, "--keyfile=/proc/self/fd/3") || strings.Contains(got, key) {
		t.Errorf("the arguments are %q, want the key by its descriptor", got)
	}
	for _, unwanted := range []string{key, "CEPH_ARGS"} {
		if strings.Contains(content(t, dir, "env"), unwanted) {
			t.Errorf("the environment has %q in it:\n%s", unwanted, content(t, dir, "env"))
		}
	}
}

func content(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAKeyThatIsNoneIsRefusedUnseen(t *testing.T) {
	for _, bad := range []string{"", "my-secret!", "bXktc2VjcmV0 bXktc2VjcmV0"} {
		calls := answers(t)
		other := pool
		other.Key = bad
		_, err := other.List(t.Context())
		if err == nil || !strings.Contains(err.Error(), "is not what `ceph auth print-key client.nomad` writes") {
			t.Errorf("%v, want a refusal of a key that is none", err)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%v: it prints the key", err)
		}
		if got := calls(); len(got) != 1 || got[0] != "" {
			t.Errorf("rbd was called all the same: %q", got)
		}
	}
}

func TestWhatAProgramSaysOfTheKeyIsNotPassedOn(t *testing.T) {
	answers(t, [2]string{"rbd ls", `fail 5 "failed to decode key ` + key + `"`})
	_, err := pool.List(t.Context())
	if err == nil || strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "decode key (the key)") {
		t.Errorf("%v, want rbd's words without the key", err)
	}
}

func TestExplain(t *testing.T) {
	const at = "Ceph pool vms at monitors 10.0.0.1:3300, [fd99::2]:6789 "
	for _, test := range []struct {
		name   string
		status syscall.Errno
		said   string
		is     error // nil: none of the exported
		want   string
	}{
		{
			"no monitor", syscall.ETIMEDOUT, "rbd: couldn't connect to the cluster! rbd: listing images failed: (110) Connection timed out",
			ErrUnreachable, at + "cannot be reached: no monitor answered within 10s; is Ceph up, do most of its monitors run, and does the network lead there?",
		},
		{
			"a name that is none", syscall.EINVAL, "unable to parse addrs in 'none.example:6789' rbd: couldn't connect to the cluster!",
			ErrUnreachable, at + "cannot be reached: one of these names cannot be resolved; correct it in the plugin's configuration, or give the address",
		},
		{
			"a wrong key", syscall.EACCES, "rbd: couldn't connect to the cluster! rbd: listing images failed: (13) Permission denied",
			nil, at + "does not let client.nomad in: there is no such user, or the key is not its key; compare both with `ceph auth get client.nomad`",
		},
		{
			"another end of the connection", syscall.EIO, "rbd: couldn't connect to the cluster!",
			ErrUnreachable, at + "cannot be reached (status 5): rbd: couldn't connect to the cluster!",
		},
		{
			"no pool", syscall.ENOENT, "rbd: error opening pool 'vms': (2) No such file or directory",
			nil, at + "does not exist: correct its name in the plugin's configuration, or make it by `ceph osd pool create vms` and `rbd pool init vms`",
		},
		{
			"no caps", syscall.EPERM, "rbd: create error: (1) Operation not permitted",
			nil, "client.nomad may not do that in Ceph pool vms: it needs the caps mon 'profile rbd' and osd 'profile rbd pool=vms'",
		},
		{
			"no space", syscall.ENOSPC, "rbd: create error: (28) No space left on device",
			ErrFull, "Ceph pool vms is full (no space left on device); remove volumes, or add OSDs",
		},
		{
			"a quota", syscall.EDQUOT, "rbd: create error: (122) Disk quota exceeded",
			ErrFull, "Ceph pool vms is full (disk quota exceeded); remove volumes, or add OSDs",
		},
		{
			"silent OSDs", syscall.ETIMEDOUT, "rbd: error opening image a: (110) Connection timed out",
			ErrUnreachable, at + "cannot be reached: it does not answer within 30s, though a monitor does; `ceph health detail` tells which OSDs are down",
		},
		{
			"snapshots that cannot be removed", syscall.ENOTEMPTY, "rbd: image has snapshots - these must be deleted with 'rbd snap purge' before the image can be removed.",
			nil, "Ceph pool vms: it has snapshots that rbd does not remove; `rbd snap ls --all` lists them",
		},
		{
			"options that it does not know", 1, "rbd: unrecognised option '--no-progress'",
			nil, "Ceph pool vms: rbd failed (status 1): rbd: unrecognised option '--no-progress'",
		},
		{
			"much", 3, strings.Repeat("x", 1000),
			nil, "Ceph pool vms: rbd failed (status 3): " + strings.Repeat("x", 300) + "...",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := pool.explain(test.status, test.said)
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for _, is := range []error{ErrUnreachable, ErrFull, ErrNotExist, ErrExist, ErrInUse, ErrOpen} {
				if errors.Is(err, is) != errors.Is(test.is, is) {
					t.Errorf("whether it is %q: %t", is, errors.Is(err, is))
				}
			}
		})
	}
}

func TestAFullPoolIsToldWhereOSDsAreSilent(t *testing.T) {
	const silent = `fail 110 "rbd: create error: (110) Connection timed out"`
	for _, test := range []struct {
		name, dump string
		is         error
		says       string
	}{
		{"full", `echo '{"pools":[{"pool_name":"vms","flags_names":"hashpspool,full"}]}'`, ErrFull,
			"creating volume a of 1GiB: Ceph pool vms is full, and takes no more data; remove volumes, or add OSDs"},
		{"over its quota", `echo '{"pools":[{"pool_name":"vms","flags_names":"full,full_quota"}]}'`, ErrFull,
			"creating volume a of 1GiB: Ceph pool vms is full: it has reached its quota; remove volumes, or raise it by `ceph osd pool set-quota`"},
		{"another is full", `echo '{"pools":[{"pool_name":"vms","flags_names":"hashpspool"},{"pool_name":"b","flags_names":"full"}]}'`, ErrUnreachable, ""},
		{"not known", "exit 1", ErrUnreachable, ""},
		{"not understood", "echo '?'", ErrUnreachable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			calls := answers(t, [2]string{"rbd create", silent}, [2]string{"ceph osd dump", test.dump})
			err := pool.Create(t.Context(), "a", vm.GiB)
			if !errors.Is(err, test.is) || test.says != "" && err.Error() != test.says {
				t.Errorf("%v, want one that is %q: %s", err, test.is, test.says)
			}
			if diff := cmp.Diff([]string{"rbd create --size 1073741824B vms/a", "ceph osd dump --format json"}, calls()); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAProgramEndsWithTheContext(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(context.Context) (context.Context, context.CancelFunc)
		is   []error
	}{
		{"its deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		}, []error{ErrUnreachable, context.DeadlineExceeded}},
		{"its end", func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		}, []error{context.Canceled}},
	} {
		t.Run(test.name, func(t *testing.T) {
			answers(t, [2]string{"rbd ls", "exec sleep 60"})
			ctx, cancel := test.end(t.Context())
			defer cancel()
			began := time.Now()
			_, err := pool.List(ctx)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("List returns after %s, want 300ms", took)
			}
			for _, is := range test.is {
				if !errors.Is(err, is) {
					t.Errorf("%v, want one that is %q", err, is)
				}
			}
		})
	}
}

func TestRenameIsNotCutOff(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	answers(t, [2]string{"rbd rename", "sleep 0.5; : >" + done}, [2]string{"rbd info", noVolume})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := pool.Rename(ctx, "a", "b"); err == nil {
		t.Error("Rename tells no error, though it did not see how it ended")
	}
	if _, err := os.Stat(done); err != nil {
		t.Errorf("rbd was ended in the middle of it: %v", err)
	}
}

// Nor when nobody waits for it any more.
func TestWhatOutlivesItsCallerIsNotKilled(t *testing.T) {
	done := filepath.Join(t.TempDir(), "done")
	answers(t, [2]string{"rbd rename", "sleep 3; : >" + done})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := pool.execute(ctx, program{name: "rbd", args: []string{"rename", "vms/a", "vms/b"}, outlives: true})
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Second {
		t.Errorf("%v after %s, want that it is given up", err, time.Since(began))
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(done); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("rbd was ended in the middle of it")
		}
	}
}

func TestAProgramThatIsNotInstalledIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := pool.List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "running rbd, which Debian has in ceph-common") {
		t.Errorf("%v, want the package's name", err)
	}
}
