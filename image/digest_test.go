package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func digest(t *testing.T, d *Digests, file *os.File, format string) string {
	t.Helper()
	got, err := d.Of(context.Background(), file, format, nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDigestIsOfContentAndFormat(t *testing.T) {
	var d Digests
	first := digest(t, &d, open(t, []byte("an image")), Raw)
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(first) {
		t.Errorf("the digest is %q, want 32 hex digits", first)
	}
	if second := digest(t, &d, open(t, []byte("an image")), Raw); second != first {
		t.Errorf("two files of one content have the digests %s and %s", first, second)
	}
	if other := digest(t, &d, open(t, []byte("an image")), Qcow2); other == first {
		t.Error("one content read with two formats has one digest: it is two disks")
	}
	if other := digest(t, &d, open(t, []byte("another")), Raw); other == first {
		t.Error("two contents have one digest")
	}
}

// A context that has ended keeps Of from reading: an answer comes from memory.
func TestDigestReadsAFileOnce(t *testing.T) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var d Digests
	file := open(t, []byte("an image"))
	if got, err := d.Of(over, file, Raw, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("a file that was never read has the digest %q, %v, want the context's error", got, err)
	}
	want := digest(t, &d, file, Raw)
	if got, err := d.Of(over, file, Raw, nil); err != nil || got != want {
		t.Errorf("asked again: %q, %v, want %q without a read", got, err, want)
	}
	if got, err := d.Of(over, file, Qcow2, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("asked with another format: %q, %v, want a read", got, err)
	}
}

// A host that boots starts all of its tasks at once, which share an image.
func TestDigestReadsAFileOnceForAllWhoAskAtOnce(t *testing.T) {
	const blocks, many = 3, 8
	path := filepath.Join(t.TempDir(), "a.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte("data"), blocks*digestBlock/4), 0o600); err != nil {
		t.Fatal(err)
	}
	var d Digests
	var asking, ended sync.WaitGroup
	var reads atomic.Int32
	asking.Add(many)
	for range many {
		ended.Go(func() {
			file, err := os.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			asking.Done()
			_, err = d.Of(t.Context(), file, Raw, func(float64) {
				asking.Wait() // nobody is done before all have begun
				reads.Add(1)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	ended.Wait()
	if got := reads.Load(); got != blocks {
		t.Errorf("%d blocks were read for %d who ask at once, want the %d of the file", got, many, blocks)
	}
}

func TestDigestOfAFileThatIsReadIsWaitedForAsLongAsItsContextAllows(t *testing.T) {
	file := open(t, bytes.Repeat([]byte("data"), digestBlock/4))
	var d Digests
	waiting, giveUp := context.WithCancel(t.Context())
	_, err := d.Of(t.Context(), file, Raw, func(float64) {
		giveUp()
		if _, err := d.Of(waiting, file, Raw, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("who waits for the digest and gives up gets %v, want the context's error", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDigestFollowsTheContent(t *testing.T) {
	var d Digests
	file := open(t, []byte("an image"))
	before := digest(t, &d, file, Raw)
	if err := os.WriteFile(file.Name(), []byte("an emaig"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A write within one tick of the kernel's clock leaves the times alone.
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	later := info.ModTime().Add(1)
	if err := os.Chtimes(file.Name(), later, later); err != nil {
		t.Fatal(err)
	}
	if after := digest(t, &d, file, Raw); after == before {
		t.Error("a file that was written has the digest that it had")
	}
}

func TestDigestOfAFileThatIsWrittenMeanwhile(t *testing.T) {
	var d Digests
	file := open(t, []byte("an image"))
	if got, err := d.Of(&writesOnRead{Context: context.Background(), t: t, path: file.Name()}, file, Raw, nil); err == nil {
		t.Errorf("a file that grew while it was read has the digest %s, want an error", got)
	}
}

// What nobody has written reads as zeros, and is not read.
func TestDigestOfHolesIsThatOfZeros(t *testing.T) {
	sparse := func(size int64, data map[int64]string) *os.File {
		t.Helper()
		file := open(t, nil)
		written, err := os.OpenFile(file.Name(), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer written.Close()
		for offset, text := range data {
			if _, err := written.WriteAt([]byte(text), offset); err != nil {
				t.Fatal(err)
			}
		}
		if err := written.Truncate(size); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, data := range map[string]map[int64]string{
		"a hole alone":             nil,
		"data at the start":        {0: "start"},
		"data at the end":          {5*digestBlock + 99: "e"},
		"data around a hole":       {1: "start", 5*digestBlock + 1: "end"},
		"data that ends on blocks": {2*digestBlock - 5: "blockblock"},
	} {
		for _, size := range []int64{5*digestBlock + 100, 6 * digestBlock} {
			var d Digests
			file := sparse(size, data)
			content, err := os.ReadFile(file.Name())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := digest(t, &d, file, Raw), digest(t, &d, open(t, content), Raw); got != want {
				t.Errorf("%s, %d bytes: the digest is %s, and %s where all is written", name, size, got, want)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var d Digests
	if _, err := d.Of(ctx, sparse(1<<40, map[int64]string{1 << 39: "data"}), Raw, nil); err != nil {
		t.Errorf("1 TiB of holes: %v, want them not to be read", err)
	}
}

func TestDigestTellsHowFarItIs(t *testing.T) {
	var d Digests
	var done []float64
	file := open(t, make([]byte, 4*digestBlock))
	if _, err := d.Of(t.Context(), file, Raw, func(f float64) { done = append(done, f) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float64{0.25, 0.5, 0.75, 1}, done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// writesOnRead is a context that appends to a file when it is first asked
// whether it has ended: as the file is about to be read.
type writesOnRead struct {
	context.Context
	t    *testing.T
	path string
	done bool
}

func (c *writesOnRead) Err() error {
	if !c.done {
		c.done = true
		file, err := os.OpenFile(c.path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			c.t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.WriteString(", and more"); err != nil {
			c.t.Fatal(err)
		}
	}
	return nil
}
