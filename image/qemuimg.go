package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"nomad-driver-virt/child"
	"nomad-driver-virt/vm"
)

// limits are what one run of qemu-img may take. An image can be made to take
// any of it: by tables that are large or endless, or data that unpacks to much.
type limits struct {
	memory vm.Bytes      // address space
	cpu    time.Duration // of all threads, in whole seconds
	file   vm.Bytes      // the end of what it may write to a file
}

// qemuImg is one run of qemu-img.
type qemuImg struct {
	args   []string   // the command first
	image  *os.File   // its descriptor 3
	files  []*os.File // its descriptors from 4 on
	limits limits
	stdout io.Writer // nil: nobody reads it
	// names are pairs of what the arguments call something, and what errors are
	// to call it.
	names []string
	// secret is what must not be said, if anybody does; "": nothing.
	secret string
}

// run runs qemu-img to its end. It dies with this process, and with the
// context. It is one process: prlimit becomes qemu-img.
func (q qemuImg) run(ctx context.Context) error {
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		return fmt.Errorf("looking for prlimit, which Debian has in util-linux: %w", err)
	}
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		return fmt.Errorf("looking for qemu-img, which Debian has in qemu-utils: %w", err)
	}

	cmd := exec.CommandContext(ctx, prlimit, append(q.limits.options(), append([]string{program}, q.args...)...)...)
	cmd.Env = environment()
	cmd.ExtraFiles = append([]*os.File{q.image}, q.files...)
	cmd.Stdout = q.stdout
	stderr := &head{max: 4096}
	cmd.Stderr = stderr
	err = child.Run(cmd)
	if ctx.Err() != nil {
		return fmt.Errorf("qemu-img %s of %s was given up: %w", q.args[0], q.image.Name(), context.Cause(ctx))
	}
	if err == nil {
		return nil
	}
	said := q.clean(stderr.text.String())
	if what := q.limits.hit(err, said); what != "" {
		return fmt.Errorf("qemu-img was stopped: it used more than %s for the %s of %s; "+
			"if that image is good, %s", what, q.args[0], q.image.Name(), advice)
	}
	return fmt.Errorf("qemu-img %s of %s failed (%w): %s", q.args[0], q.image.Name(), err, said)
}

// environment is all that qemu-img knows of this process's: errors are read for
// what they say, the arenas of many threads are address space that nobody uses,
// and librbd reads the host's ceph.conf, which may be another cluster's, waits 5
// minutes for one that does not answer, and may log to a file.
func environment() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"LC_ALL=C",
		"MALLOC_ARENA_MAX=2",
		"CEPH_CONF=/dev/null",
		"CEPH_ARGS=--client-mount-timeout=30 --log-file=",
	}
}

// clean makes one line of what qemu-img said, with the names that the reader
// knows. What the image itself put into it cannot be more than characters that
// are seen.
func (q qemuImg) clean(said string) string {
	if q.secret != "" {
		said = strings.ReplaceAll(said, q.secret, "(secret)")
	}
	said = strings.NewReplacer(append(q.names, "/proc/self/fd/3", q.image.Name())...).Replace(said)
	said = strings.Join(strings.Fields(said), " ")
	said = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(said, "?"))
	const most = 400
	if len(said) > most {
		said = strings.ToValidUTF8(said[:most], "") + " …"
	}
	return said
}

// options are prlimit's. Past the first of the two limits of CPU time the
// kernel sends SIGXCPU, past the second SIGKILL.
func (l limits) options() []string {
	seconds := max(1, int64(l.cpu/time.Second))
	return []string{
		fmt.Sprintf("--as=%d", l.memory),
		fmt.Sprintf("--cpu=%d:%d", seconds, seconds+5),
		fmt.Sprintf("--fsize=%d", l.file),
		fmt.Sprintf("--stack=%d", threadStack),
		"--core=0",
	}
}

// hit tells which limit ended a run, "" for none.
func (l limits) hit(err error, said string) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			switch status.Signal() {
			case syscall.SIGXCPU:
				return fmt.Sprintf("%s of CPU time", l.cpu)
			case syscall.SIGXFSZ:
				return fmt.Sprintf("%s of a file", l.file)
			}
		}
	}
	// QEMU's threads get an error instead of that signal.
	if strings.Contains(said, "File too large") {
		return fmt.Sprintf("%s of a file", l.file)
	}
	// What allocates says so in words of its own: QEMU, GLib, C++ in librbd, and
	// the loader.
	for _, words := range []string{"Cannot allocate memory", "failed to allocate", "Could not allocate", "std::bad_alloc",
		"qemu_thread_create", "Resource temporarily unavailable", "failed to map segment"} {
		if strings.Contains(said, words) {
			return fmt.Sprintf("%s of memory (%s)", l.memory, said)
		}
	}
	return ""
}

// source describes an image to qemu-img: the file that was opened and judged,
// by its descriptor, with the format that was found and no other file with it.
//
// See https://www.qemu.org/docs/master/system/qemu-block-drivers.html
func source(image vm.Image) string { return "json:" + marshal(node(image)) }

func node(image vm.Image) map[string]any {
	return map[string]any{
		"driver":  image.Format,
		"backing": nil,
		"file":    map[string]string{"driver": "file", "filename": "/proc/self/fd/3"},
	}
}

// window describes a part of an image's disk to qemu-img; a length of 0 is to
// the disk's end.
func window(image vm.Image, offset, length vm.Bytes) string {
	raw := map[string]any{"driver": Raw, "offset": offset, "file": node(image)}
	if length > 0 {
		raw["size"] = length
	}
	return "json:" + marshal(raw)
}

func marshal(options map[string]any) string {
	out, err := json.Marshal(options)
	if err != nil {
		panic(err) // of strings, numbers and nil
	}
	return string(out)
}

// head keeps the first bytes of what is written to it, and takes the rest as
// well: whoever writes is not to be stopped by that.
type head struct {
	text bytes.Buffer
	max  int
}

func (h *head) Write(p []byte) (int, error) {
	h.text.Write(p[:min(len(p), h.max-h.text.Len())])
	return len(p), nil
}
