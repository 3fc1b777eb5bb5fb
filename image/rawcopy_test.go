package image

import (
	"bytes"
	"context"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// holey writes a file of 4 MiB: data, a hole, zeros that are data among data,
// and a hole at the end. It returns its content.
func holey(t *testing.T) (*os.File, []byte) {
	t.Helper()
	path := open(t, nil).Name()
	want := make([]byte, 4<<20)
	for i := range 256 << 10 {
		want[i] = byte(i%251 + 1)
		want[2<<20+i] = byte(i%241 + 1)
	}
	clear(want[2<<20+64<<10 : 2<<20+128<<10])
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if err := file.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 2 << 20} {
		if _, err := file.WriteAt(want[offset:offset+256<<10], offset); err != nil {
			t.Fatal(err)
		}
	}
	return file, want
}

// ranges are what was asked to be made zeros.
type ranges [][2]int64

func (r *ranges) zero(_ context.Context, offset, length int64) error {
	*r = append(*r, [2]int64{offset, length})
	return nil
}

func TestRawCopyWritesZerosWhereThereIsOtherData(t *testing.T) {
	from, want := holey(t)
	old := bytes.Repeat([]byte{0xff}, len(want))
	to := openForWriting(t, old)
	var zeroed ranges
	r := rawCopy{from: from, to: to, zero: zeroed.zero, done: func(int64) {}}
	if err := r.run(context.Background(), 0, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ranges{{256 << 10, 2<<20 - 256<<10}, {2<<20 + 256<<10, 2<<20 - 256<<10}}, zeroed); diff != "" {
		t.Errorf("it makes other ranges zeros than the holes of the image (-want +got):\n%s", diff)
	}
	for _, z := range zeroed {
		clear(old[z[0] : z[0]+z[1]])
	}
	got, err := os.ReadFile(to.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, z := range zeroed {
		clear(got[z[0] : z[0]+z[1]])
	}
	if !bytes.Equal(got, want) {
		t.Error("what was copied is not what was there: the zeros among the data have to be written")
	}
}

func TestRawCopyLeavesHolesInAnEmptyFile(t *testing.T) {
	from, want := holey(t)
	to := openForWriting(t, nil)
	if err := to.Truncate(int64(len(want))); err != nil {
		t.Fatal(err)
	}
	var told []int64
	done := func(bytes int64) { told = append(told, bytes) }
	if err := (rawCopy{from: from, to: to, done: done}).run(context.Background(), 0, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("what was copied is not what was there")
	}
	var data ranges
	err = extents(to, 0, int64(len(want)), func(offset, length int64, hole bool) error {
		if !hole {
			data = append(data, [2]int64{offset, length})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ranges{{0, 256 << 10}, {2 << 20, 64 << 10}, {2<<20 + 128<<10, 128 << 10}}, data); diff != "" {
		t.Errorf("the copy has its data elsewhere (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int64{256 << 10, 2 << 20, 2<<20 + 256<<10, 4 << 20}, told); diff != "" {
		t.Errorf("it is told of other progress (-want +got):\n%s", diff)
	}
}

// The kernel copies to no file that is open for appending, and there may be
// file systems that it does not copy to.
func TestRawCopyByHand(t *testing.T) {
	want := bytes.Repeat([]byte("by hand "), 100_000)
	to := openForWriting(t, nil)
	if _, err := unix.FcntlInt(to.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
		t.Fatal(err)
	}
	r := rawCopy{from: open(t, want), to: to, done: func(int64) {}}
	if err := r.run(context.Background(), 0, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := to.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was copied is not what was there, %v", err)
	}
}

// From an offset on, as the rest of a device is filled.
func TestRawCopyKeepsToItsRange(t *testing.T) {
	from, want := holey(t)
	to := openForWriting(t, bytes.Repeat([]byte{0xff}, len(want)))
	var zeroed ranges
	const start, end = 100 << 10, 2<<20 + 1000
	r := rawCopy{from: from, to: to, zero: zeroed.zero, done: func(int64) {}}
	if err := r.run(context.Background(), start, end); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(to.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[start:256<<10], want[start:256<<10]) || !bytes.Equal(got[2<<20:end], want[2<<20:end]) {
		t.Error("the range is not copied")
	}
	if bytes.Count(got[:start], []byte{0xff}) != start || bytes.Count(got[end:], []byte{0xff}) != len(got)-end {
		t.Error("it writes outside of its range")
	}
	if diff := cmp.Diff(ranges{{256 << 10, 2<<20 - 256<<10}}, zeroed); diff != "" {
		t.Errorf("it makes other ranges zeros (-want +got):\n%s", diff)
	}
}

func TestZerosAreFoundByBlocks(t *testing.T) {
	for _, test := range []struct {
		blocks string // "." is of zeros, "x" of zeros with a byte at its end, "X" with one at its start
		tail   int    // that is cut off
		data   ranges
	}{
		{"x", 0, ranges{{0, block}}},
		{".", 0, nil},
		{"..X", 0, ranges{{2 * block, 3 * block}}},
		{".xX.x", 0, ranges{{block, 3 * block}, {4 * block, 5 * block}}},
		{"X.", 100, ranges{{0, block}}},
		{"..", 100, nil},
		{".X", 100, ranges{{block, 2*block - 100}}},
		{".x", 100, nil},
	} {
		var content []byte
		for _, b := range test.blocks {
			part := make([]byte, block)
			switch b {
			case 'x':
				part[block-1] = 1
			case 'X':
				part[0] = 1
			}
			content = append(content, part...)
		}
		content = content[:len(content)-test.tail]
		end := int64(len(content))
		r := rawCopy{from: open(t, content)}
		var got ranges
		for offset := int64(0); offset < end; {
			data, err := r.skip(offset, end, true)
			if err != nil {
				t.Fatal(err)
			}
			if offset, err = r.skip(data, end, false); err != nil {
				t.Fatal(err)
			}
			if data < offset {
				got = append(got, [2]int64{data, offset})
			}
		}
		if diff := cmp.Diff(test.data, got); diff != "" {
			t.Errorf("of %q without %d bytes, other ranges are data (-want +got):\n%s", test.blocks, test.tail, diff)
		}
	}
}

func openForWriting(t *testing.T, held []byte) *os.File {
	t.Helper()
	file, err := os.OpenFile(open(t, held).Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}
