//go:build lab

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

// program puts a script in the place of a program, and returns where it may
// write to.
func program(t *testing.T, name, script string) (out string) {
	t.Helper()
	dir := t.TempDir()
	out = filepath.Join(dir, "out")
	script = "#!/bin/sh\n" + strings.ReplaceAll(script, "OUT", out) + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return out
}

// The stub has what the real one would have: limits and environment.
func TestLimitsArrive(t *testing.T) {
	file, image := inspected(t, images(t)["qcow2"])
	out := program(t, "qemu-img", "[ $1 = convert ] || exec echo {}; cat /proc/$$/limits >OUT; tr '\\0' '\\n' </proc/$$/environ >>OUT; exit 1")
	t.Setenv("CONSUL_HTTP_TOKEN", "a secret of the agent's")

	to := vm.Volume{Path: "/nowhere", Format: Qcow2, Size: vm.GiB}
	if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err == nil {
		t.Fatal("a qemu-img that fails is a copy that succeeds")
	}
	written := string(content(t, out))
	file16 := strconv.FormatUint(uint64(vm.GiB+qcow2Metadata(vm.GiB)+vm.MiB), 10)
	for what, want := range map[string]string{
		"Max address space":  "2147483648 2147483648 bytes",
		"Max cpu time":       "120 125 seconds",
		"Max file size":      file16 + " " + file16 + " bytes",
		"Max core file size": "0 0 bytes",
		"Max stack size":     "8388608 8388608 bytes",
	} {
		if !strings.Contains(strings.Join(strings.Fields(written), " "), what+" "+want) {
			t.Errorf("the limits are\n%s\nwant %s %s", written, what, want)
		}
	}
	_, environ, _ := strings.Cut(written, "PATH=")
	want := os.Getenv("PATH") + "\nLC_ALL=C\nMALLOC_ARENA_MAX=2\nCEPH_CONF=/dev/null\nCEPH_ARGS=--client-mount-timeout=30 --log-file=\n"
	if diff := cmp.Diff(want, environ); diff != "" {
		t.Errorf("it has another environment (-want +got):\n%s", diff)
	}
}

func TestLimitThatIsHitIsUnderstood(t *testing.T) {
	all := images(t)
	big := filepath.Join(t.TempDir(), "big.img")
	if err := os.WriteFile(big, noise("big", 256*vm.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	enough := limits{memory: qemuMemory, cpu: time.Minute, file: vm.GiB}
	for name, test := range map[string]struct {
		path   string
		set    func(*limits)
		format []string
		want   string
	}{
		"memory": {all["qcow2"], func(l *limits) { l.memory = 40 * vm.MiB }, nil, "40MiB of memory"},
		"time":   {big, func(l *limits) { l.cpu = time.Second }, []string{"-c"}, "1s of CPU time"},
		"file":   {all["qcow2"], func(l *limits) { l.file = vm.MiB }, nil, "1MiB of a file"},
	} {
		t.Run(name, func(t *testing.T) {
			file, image := inspected2(t, test.path, "")
			l := enough
			test.set(&l)
			err := Copy{File: file, Image: image}.convert(context.Background(), conversion{
				from: source(image), to: filepath.Join(t.TempDir(), "out"), name: "out",
				options: append([]string{"-O", "qcow2"}, test.format...), limits: l,
			})
			want := "qemu-img was stopped: it used more than " + test.want
			if err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), test.path) {
				t.Errorf("the error is %v, want one that names the image and says %q", err, want)
			}
		})
	}
}

// 12 GiB of disk are copied within the limits of the smallest of volumes.
func TestLargeDiskIsCopiedWithinTheLimits(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.qcow2")
	tool(t, "create", "-q", "-f", "qcow2", large, "12G")
	for _, write := range []string{"write -P 1 0 64M", "write -P 2 6G 64M", "write -P 3 11G 64M"} {
		run(t, "qemu-io", "-f", "qcow2", "-c", write, large)
	}
	tool(t, "convert", "-c", "-O", "qcow2", large, large+"c")
	for _, path := range []string{large, large + "c"} {
		for _, format := range []string{Qcow2, Raw} {
			file, image := inspected(t, path)
			to := newVolume(t, format, 12*vm.GiB)
			if err := Fill(context.Background(), Copy{File: file, Image: image, To: to}); err != nil {
				t.Error(err)
			}
			tool(t, "compare", "-f", Qcow2, "-F", format, path, to.Path)
		}
	}
}

// stuck is a run of qemu-img that waits for a secret which nobody tells.
func stuck(t *testing.T, ctx context.Context, file *os.File, fifo string) error {
	t.Helper()
	return qemuImg{
		args:   []string{"info", "--object", optionList("secret,id", "x", "file", fifo), "/proc/self/fd/3"},
		image:  file,
		limits: limits{memory: qemuMemory, cpu: time.Minute},
	}.run(ctx)
}

func newFIFO(t *testing.T) string {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "secret")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	return fifo
}

func TestContextEndsQemuImg(t *testing.T) {
	file, _ := inspected(t, rawImage(t))
	fifo := newFIFO(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	failed := make(chan error, 1)
	go func() { failed <- stuck(t, ctx, file, fifo) }()
	waitFor(t, "qemu-img to run", func() bool { return running(t, fifo) != 0 })

	reason := errors.New("the task was stopped")
	cancel(reason)
	select {
	case err := <-failed:
		if !errors.Is(err, reason) || !strings.Contains(err.Error(), file.Name()) {
			t.Errorf("the error is %v, want one that names the image and why", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the run has not ended 10 s after its context")
	}
	if pid := running(t, fifo); pid != 0 {
		t.Errorf("qemu-img runs on as process %d", pid)
	}
}

func TestQemuImgDiesWithThePlugin(t *testing.T) {
	if fifo := os.Getenv("TEST_STUCK_ON"); fifo != "" { // this is the plugin
		file, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		t.Fatal(stuck(t, context.Background(), file, fifo))
	}
	fifo := newFIFO(t)
	plugin := exec.Command(os.Args[0], "-test.run=^TestQemuImgDiesWithThePlugin$")
	plugin.Env = append(os.Environ(), "TEST_STUCK_ON="+fifo)
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "qemu-img to run", func() bool { return running(t, fifo) != 0 })
	if err := plugin.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = plugin.Wait()
	waitFor(t, "qemu-img to die", func() bool { return running(t, fifo) == 0 })
}

// running returns the process of a qemu-img that has an argument, 0 for none.
func running(t *testing.T, argument string) int {
	t.Helper()
	for pid, cmdline := range cmdlines(t) {
		program, arguments, _ := strings.Cut(cmdline, "\x00")
		if filepath.Base(program) == "qemu-img" && strings.Contains(arguments, argument) {
			return pid
		}
	}
	return 0
}

func cmdlines(t *testing.T) map[int]string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[int]string)
	for _, path := range all {
		var pid int
		if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err != nil {
			t.Fatal(err)
		}
		if cmdline, err := os.ReadFile(path); err == nil && len(cmdline) > 0 { // it may have ended
			found[pid] = string(cmdline)
		}
	}
	return found
}

func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}
