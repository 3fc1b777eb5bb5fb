package console

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// newConsole returns the log of a VM's console, in a directory of the test's own.
func newConsole(t *testing.T) (vmName, log string) {
	t.Helper()
	was := dir
	dir = t.TempDir()
	t.Cleanup(func() { dir = was })
	must(t, Make("web"))
	return "web", Log("web")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func print(t *testing.T, log, text string) {
	t.Helper()
	file, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	_, err = file.WriteString(text)
	must(t, err)
	must(t, file.Close())
}

// rotate does with a log what virtlogd does with one that is full.
func rotate(t *testing.T, log string) {
	t.Helper()
	must(t, os.RemoveAll(log+".2"))
	for _, names := range [][2]string{{log + ".1", log + ".2"}, {log + ".0", log + ".1"}, {log, log + ".0"}} {
		if err := os.Rename(names[0], names[1]); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	print(t, log, "")
}

// collector reads a FIFO, as Nomad's log collector does: to the end, once.
type collector struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *collector) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func newFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(path, 0o600))
	return path
}

// collect begins to read a FIFO, until the function that it returns is called.
func collect(t *testing.T, fifo string) (c *collector, stop func()) {
	t.Helper()
	file, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	must(t, err)
	c = new(collector)
	go func() { // there may be no writer yet, which reads as the end
		for {
			if _, err := file.WriteTo(c); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return c, func() { file.Close() }
}

func (c *collector) want(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); c.String() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got %q, want %q", c.String(), want)
		}
	}
}

// follow begins to follow a console. end lets its VM end and waits until all is
// copied; kill ends the process that follows.
func follow(t *testing.T, vmName, fifo string) (end, kill func()) {
	t.Helper()
	return followBy(t, func(ctx context.Context, ended <-chan struct{}) error { return Follow(ctx, vmName, fifo, ended) })
}

func followBy(t *testing.T, follow func(ctx context.Context, ended <-chan struct{}) error) (end, kill func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if err := follow(ctx, ended); err != nil {
			t.Error(err)
		}
	}()
	wait := func() {
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Error("it goes on")
		}
	}
	return func() { close(ended); wait() }, func() { cancel(); wait() }
}

func TestFollowCopiesToTheLastWord(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	got, stop := collect(t, fifo)
	defer stop()
	end, _ := follow(t, vm, fifo)
	got.want(t, "") // there is no log before QEMU starts
	print(t, log, "firmware\n")
	got.want(t, "firmware\n")
	print(t, log, "kernel\n")
	print(t, log, "power down")
	end()
	got.want(t, "firmware\nkernel\npower down")
}

func TestFollowGoesThroughFullFiles(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	got, stop := collect(t, fifo)
	defer stop()
	end, _ := follow(t, vm, fifo)
	want := ""
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		print(t, log, line)
		want += line
		if i%3 == 0 {
			rotate(t, log)
		}
		got.want(t, want)
	}
	end()
	got.want(t, want)
}

func TestNextFollowGoesOnWhereTheLastStopped(t *testing.T) {
	for what, rotations := range map[string]int{"in the same file": 0, "in the one before": 1, "in one long ago": 3} {
		t.Run(what, func(t *testing.T) {
			vm, log := newConsole(t)
			fifo := newFIFO(t)
			got, stop := collect(t, fifo)
			print(t, log, "one\n")
			_, kill := follow(t, vm, fifo)
			got.want(t, "one\n")
			kill()
			stop()

			want := ""
			for i := range rotations {
				line := fmt.Sprintf("meanwhile %d\n", i)
				print(t, log, line)
				want += line
				rotate(t, log)
			}
			print(t, log, "two\n")
			got, stop = collect(t, fifo)
			defer stop()
			end, _ := follow(t, vm, fifo)
			end()
			got.want(t, want+"two\n")
		})
	}
}

func TestFollowTellsThatSomethingIsMissing(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	got, stop := collect(t, fifo)
	print(t, log, "one\n")
	_, kill := follow(t, vm, fifo)
	got.want(t, "one\n")
	kill()
	stop()
	for i := range 5 {
		print(t, log, fmt.Sprintf("meanwhile %d\n", i))
		rotate(t, log)
	}
	got, stop = collect(t, fifo)
	defer stop()
	end, _ := follow(t, vm, fifo)
	end()
	got.want(t, lost+"meanwhile 2\nmeanwhile 3\nmeanwhile 4\n")
}

func TestFollowWaitsForAReader(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	print(t, log, "one\n")
	end, _ := follow(t, vm, fifo)
	got, stop := collect(t, fifo)
	got.want(t, "one\n")
	stop()
	print(t, log, "two\n")
	print(t, log, "three\n")
	got, stop = collect(t, fifo)
	defer stop()
	got.want(t, "two\nthree\n")
	end()
}

func TestFollowEndsWhereNobodyReads(t *testing.T) {
	vm, log := newConsole(t)
	print(t, log, "one\n")
	for what, fifo := range map[string]string{
		"no FIFO":   filepath.Join(t.TempDir(), "none"),
		"no reader": newFIFO(t),
		"a reader that does not read": func() string {
			fifo := newFIFO(t)
			file, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
			must(t, err)
			t.Cleanup(func() { file.Close() })
			print(t, log, strings.Repeat("more than a pipe holds ", 10000))
			return fifo
		}(),
	} {
		t.Run(what, func(t *testing.T) {
			end, _ := follow(t, vm, fifo)
			end()
		})
	}
}

func TestFilesOfOneNameAreToldApart(t *testing.T) {
	_, log := newConsole(t)
	idNow := func() fileID {
		file, err := os.Create(log)
		must(t, err)
		defer file.Close()
		id, err := idOf(file)
		must(t, err)
		return id
	}
	was := idNow()
	must(t, os.Remove(log))
	// The next one has the number of the first, and the kernel's clock of files is
	// a coarse one.
	for deadline := time.Now().Add(time.Second); idNow() == was; must(t, os.Remove(log)) {
		if time.Now().After(deadline) {
			t.Fatal("another file is taken for the first")
		}
	}
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../web", "a/b"} {
		if err := Make(name); err == nil {
			t.Errorf("made a directory for %q", name)
		}
		if err := Remove(name); err == nil {
			t.Errorf("removed the directory for %q", name)
		}
	}
}

func TestRemoveLeavesNothing(t *testing.T) {
	vm, log := newConsole(t)
	print(t, log, "one\n")
	rotate(t, log)
	for range 2 {
		must(t, Remove(vm))
	}
	if _, err := os.Stat(filepath.Dir(log)); !os.IsNotExist(err) {
		t.Errorf("the directory is there: %v", err)
	}
}

// A reader that has come to an end may leave his FIFO open, as Nomad's does when a
// plugin was killed: what is written then, he does not read.
func TestFollowLosesNothingToAReaderThatHasStopped(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	idle, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	must(t, err)
	print(t, log, "one\n")
	_, kill := follow(t, vm, fifo)
	inFIFO := &pipe{path: fifo}
	must(t, inFIFO.open())
	defer inFIFO.close()
	for deadline := time.Now().Add(10 * time.Second); inFIFO.inPipe == 0; time.Sleep(time.Millisecond) {
		_, err := inFIFO.taken()
		must(t, err)
		if time.Now().After(deadline) {
			t.Fatal("nothing was written")
		}
	}
	inFIFO.close()
	kill()
	print(t, log, "two\n")
	tail, err := openTail(log)
	must(t, err)
	defer tail.close()
	out := &pipe{path: fifo}
	defer out.close()
	if progress, err := copyNext(tail, out); progress != stuck || err != nil {
		t.Fatalf("the next one begins with %v, %v, and what was written before it is in its way", progress, err)
	}
	end, _ := followBy(t, func(ctx context.Context, ended <-chan struct{}) error { return copyAll(ctx, tail, out, ended) })
	must(t, idle.Close())
	print(t, log, "three\n")
	got, stop := collect(t, fifo)
	defer stop()
	got.want(t, "one\ntwo\nthree\n")
	end()
}

// Other tasks of the group can write where the FIFO is.
func TestFollowWritesToNothingButAFIFO(t *testing.T) {
	vm, log := newConsole(t)
	print(t, log, "guest's\n")
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	must(t, os.WriteFile(target, nil, 0o600))
	must(t, os.Symlink(target, filepath.Join(dir, "link")))
	fifo := newFIFO(t)
	must(t, os.Symlink(fifo, filepath.Join(dir, "link-to-fifo")))
	for _, path := range []string{target, filepath.Join(dir, "link"), filepath.Join(dir, "link-to-fifo")} {
		if err := Follow(t.Context(), vm, path, nil); err == nil {
			t.Errorf("%s is written to", path)
		}
	}
	if content, err := os.ReadFile(target); err != nil || len(content) > 0 {
		t.Errorf("the file has %q, %v", content, err)
	}
}

func TestGapIsToldWhenSomebodyReads(t *testing.T) {
	vm, log := newConsole(t)
	fifo := newFIFO(t)
	got, stop := collect(t, fifo)
	print(t, log, "one\n")
	end, _ := follow(t, vm, fifo)
	got.want(t, "one\n")
	stop()
	print(t, log, "is lost\n")
	for range 4 {
		print(t, log, "lost\n")
		rotate(t, log)
	}
	print(t, log, "two\n")
	got, stop = collect(t, fifo)
	defer stop()
	end()
	if text := got.String(); !strings.HasSuffix(text, "two\n") || strings.Count(text, "two") != 1 || strings.Contains(text, "one") {
		t.Errorf("got %q", text)
	}
}
