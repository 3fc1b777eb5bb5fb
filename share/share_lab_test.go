//go:build lab

package share

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nomad-driver-virt/vm"
)

// TestMain runs the tests once more, in a mount namespace of their own with an
// empty /run, so that the machine's own mounts never change.
func TestMain(m *testing.M) {
	const inside = "SHARE_LAB_INSIDE"
	if os.Getenv(inside) == "" {
		os.Exit(runInNamespace(append(os.Environ(), inside+"=1")))
	}
	for _, mount := range []func() error{
		func() error { return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "") },
		func() error { return syscall.Mount("tmpfs", "/run", "tmpfs", 0, "") },
	} {
		if err := mount(); err != nil {
			fmt.Fprintln(os.Stderr, "making a mount namespace, which takes root:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func runInNamespace(environment []string) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = environment
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

const name = "virt-task-5a6e215e"

// shared returns two directories to share read-only, with a file each, and has
// them detached when the test ends.
func shared(t *testing.T) []vm.Share {
	t.Helper()
	var shares []vm.Share
	for _, tag := range []string{"alloc", "local"} {
		source := t.TempDir()
		write(t, filepath.Join(source, "index.html"), tag)
		shares = append(shares, vm.Share{Tag: tag, Source: source, Mount: Mount(name, tag), Target: "/" + tag, ReadOnly: true})
	}
	t.Cleanup(func() {
		if err := Detach(name); err != nil {
			t.Error(err)
		}
	})
	return shares
}

func attach(t *testing.T, shares []vm.Share) {
	t.Helper()
	if err := Attach(shares); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
	}
}

func mustBeGone(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is there still (%v)", path, err)
	}
}

func mustNotBeMounted(t *testing.T, below string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), " "+below+"/") {
		t.Errorf("something is mounted below %s:\n%s", below, mounts)
	}
}

func TestAttachShowsDirectoriesReadOnly(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	for _, s := range shares {
		mustRead(t, filepath.Join(s.Mount, "index.html"), s.Tag)
		for what, err := range map[string]error{
			"making a file":      os.WriteFile(filepath.Join(s.Mount, "new"), nil, 0o644),
			"writing a file":     os.WriteFile(filepath.Join(s.Mount, "index.html"), nil, 0o644),
			"removing a file":    os.Remove(filepath.Join(s.Mount, "index.html")),
			"changing a mode":    os.Chmod(s.Mount, 0o777),
			"making a directory": os.Mkdir(filepath.Join(s.Mount, "dir"), 0o755),
		} {
			if !errors.Is(err, syscall.EROFS) {
				t.Errorf("%s in %s: %v, want %v", what, s.Tag, err, syscall.EROFS)
			}
		}
		mustRead(t, filepath.Join(s.Source, "index.html"), s.Tag)
	}
}

func TestAttachShowsADirectoryThatCanBeWritten(t *testing.T) {
	shares := shared(t)
	shares[0].ReadOnly = false
	attach(t, shares)
	written, readOnly := shares[0], shares[1]
	write(t, filepath.Join(written.Mount, "new"), "by the guest")
	mustRead(t, filepath.Join(written.Source, "new"), "by the guest")
	if err := os.WriteFile(filepath.Join(readOnly.Mount, "new"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing a file in %s, which is beside one that can be written: %v, want %v", readOnly.Tag, err, syscall.EROFS)
	}
	if err := Detach(name); err != nil {
		t.Fatal(err)
	}
	mustRead(t, filepath.Join(written.Source, "new"), "by the guest")
}

// What a guest writes is data to the host: no device that it makes is one, and
// no program that it leaves is another user's.
func TestAttachGivesNoMeaningToWhatTheGuestWrites(t *testing.T) {
	shares := shared(t)
	shares[0].ReadOnly = false
	attach(t, shares)
	for _, s := range shares {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(s.Mount, &fs); err != nil {
			t.Fatal(err)
		}
		const want = syscall.MS_NOSUID | syscall.MS_NODEV
		if fs.Flags&want != want {
			t.Errorf("%s is mounted with the flags %#x, want %#x (nosuid, nodev) in them", s.Tag, fs.Flags, want)
		}
	}
	device := filepath.Join(shares[0].Mount, "null")
	if err := syscall.Mknod(device, syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	if file, err := os.Open(device); err == nil {
		file.Close()
		t.Error("a device in a directory of the guest's can be opened, want it to be refused")
	}
}

// Nomad renders a template again by a rename into place.
func TestAttachedDirectoryFollowsItsSource(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	source := shares[0].Source
	write(t, filepath.Join(source, ".index.html.new"), "rendered again")
	if err := os.Rename(filepath.Join(source, ".index.html.new"), filepath.Join(source, "index.html")); err != nil {
		t.Fatal(err)
	}
	mustRead(t, filepath.Join(shares[0].Mount, "index.html"), "rendered again")
}

func TestAttachTellsWhatIsMissing(t *testing.T) {
	shares := shared(t)
	shares[1].Source = filepath.Join(shares[1].Source, "missing")
	err := Attach(shares)
	if err == nil || !strings.Contains(err.Error(), shares[1].Source) {
		t.Errorf("the error is %v, want one that names %s", err, shares[1].Source)
	}
	if err := Detach(name); err != nil {
		t.Errorf("detaching what was half attached: %v", err)
	}
	mustBeGone(t, filepath.Join(Root, name))
}

func TestDetachTakesAwayAllAndIsIdempotent(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	attach(t, shares) // a start that a crash cut short, and the next one
	for range 2 {
		if err := Detach(name); err != nil {
			t.Fatal(err)
		}
		mustNotBeMounted(t, Root)
		mustBeGone(t, filepath.Join(Root, name))
	}
	for _, s := range shares {
		mustRead(t, filepath.Join(s.Source, "index.html"), s.Tag)
	}
}

func TestDetachWhileAFileIsInUse(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	file, err := os.Open(filepath.Join(shares[0].Mount, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := Detach(name); err != nil {
		t.Fatal(err)
	}
	mustBeGone(t, filepath.Join(Root, name))
}

func TestDetachLeavesOtherVMsAlone(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	if err := Detach(name + "-2"); err != nil {
		t.Fatal(err)
	}
	mustRead(t, filepath.Join(shares[0].Mount, "index.html"), shares[0].Tag)
}

func TestDetachDeletesNoContent(t *testing.T) {
	for _, content := range []string{"alloc/file", "file"} {
		t.Run(content, func(t *testing.T) {
			shares := shared(t)
			foreign := filepath.Join(Root, name, content)
			if err := os.MkdirAll(filepath.Dir(foreign), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, foreign, "somebody's")
			attach(t, shares)
			if err := Detach(name); err == nil {
				t.Error("it succeeds, want an error for what it cannot remove")
			}
			mustRead(t, foreign, "somebody's")
			if err := os.Remove(foreign); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDetachRefusesWhatIsNoName(t *testing.T) {
	shares := shared(t)
	attach(t, shares)
	for _, bad := range []string{"", ".", "..", "/", "a/b", "../nomad-driver-virt/" + name, name + "/", name + "/alloc"} {
		if err := Detach(bad); err == nil {
			t.Errorf("Detach(%q) is taken for a VM", bad)
		}
	}
	mustRead(t, filepath.Join(shares[0].Mount, "index.html"), shares[0].Tag)
}
