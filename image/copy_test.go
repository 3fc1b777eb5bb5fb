package image

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestTargetOfCeph(t *testing.T) {
	for name, test := range map[string]struct {
		to   vm.Volume
		want string
	}{
		"one monitor": {
			vm.Volume{Name: "disk", RBD: &vm.RBD{Pool: "vms", User: "nomad", Monitors: []string{"10.0.0.1:6789"}}},
			"driver=raw,file.driver=rbd,file.pool=vms,file.image=disk,file.user=nomad,file.key-secret=key," +
				"file.server.0.host=10.0.0.1,file.server.0.port=6789",
		},
		"three, of which one is of IPv6": {
			vm.Volume{Name: "disk", RBD: &vm.RBD{Pool: "vms", User: "nomad",
				Monitors: []string{"ceph-1:3300", "[fd00::2]:3300", "10.0.0.3:3300"}}},
			"driver=raw,file.driver=rbd,file.pool=vms,file.image=disk,file.user=nomad,file.key-secret=key," +
				"file.server.0.host=ceph-1,file.server.0.port=3300," +
				"file.server.1.host=fd00::2,file.server.1.port=3300," +
				"file.server.2.host=10.0.0.3,file.server.2.port=3300",
		},
		"commas, which would be options": {
			vm.Volume{Name: "disk,file.conf=/tmp/x", RBD: &vm.RBD{Pool: "a,,b", User: "n,", Monitors: nil}},
			"driver=raw,file.driver=rbd,file.pool=a,,,,b,file.image=disk,,file.conf=/tmp/x,file.user=n,,,file.key-secret=key",
		},
	} {
		got, err := rbdTarget(test.to)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: QEMU is told another target (-want +got):\n%s", name, diff)
		}
	}
}

func TestKeyOfCephIsJudged(t *testing.T) {
	for name, test := range map[string]struct {
		key  string
		good bool
	}{
		"a key":             {"AQBsPwRlAAAAABAAq0CqFhyKFvlq9Yh7hRkxqA==", true},
		"a longer key":      {base64.StdEncoding.EncodeToString(make([]byte, 44)), true},
		"nothing":           {"", false},
		"no base64":         {"AQBsPwRlAAAAABAAq0CqFhyKFvlq9Yh7hRkxqA=!", false},
		"base64 of a word":  {"c2VjcmV0", false},
		"a key and more":    {"AQBsPwRlAAAAABAAq0CqFhyKFvlq9Yh7hRkxqA== #", false},
		"a file's contents": {"[client.nomad]\nkey = AQBsPwRlAAAAABAAq0CqFhyKFvlq9Yh7hRkxqA==", false},
	} {
		err := judgeKey(test.key, "nomad")
		if (err == nil) != test.good {
			t.Errorf("%s: the error is %v, want one: %v", name, err, !test.good)
		}
		if err != nil && test.key != "" && strings.Contains(err.Error(), test.key) {
			t.Errorf("%s: the error tells the key: %v", name, err)
		}
	}
}

func TestSecretIsReadOnceFromAPipe(t *testing.T) {
	pipe, err := secretPipe("a secret")
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if got, err := io.ReadAll(pipe); err != nil || string(got) != "a secret" {
		t.Errorf("the pipe tells %q, %v, want the secret and its end", got, err)
	}
}

func TestImageIsDescribedByItsDescriptor(t *testing.T) {
	image := vm.Image{Path: "/images/json:x", Format: Qcow2}
	file := `"backing":null,"driver":"qcow2","file":{"driver":"file","filename":"/proc/self/fd/3"}`
	for _, test := range []struct{ got, want string }{
		{source(image), `json:{` + file + `}`},
		{window(image, 0, 4096), `json:{"driver":"raw","file":{` + file + `},"offset":0,"size":4096}`},
		{window(image, vm.MiB, 0), `json:{"driver":"raw","file":{` + file + `},"offset":1048576}`},
	} {
		if diff := cmp.Diff(test.want, test.got); diff != "" {
			t.Errorf("QEMU is told another image (-want +got):\n%s", diff)
		}
	}
}

func TestProgressIsRead(t *testing.T) {
	for _, test := range []struct {
		name, text, rest string
		done             float64
		ok               bool
	}{
		{"nothing", "", "", 0, false},
		{"the first", "    (0.00/100%)\r", "\r", 0, true},
		{"one", "    (12.50/100%)\r", "\r", 0.125, true},
		{"the last", "    (100.00/100%)\r    (100.00/100%)\r\n", "\r\n", 1, true},
		{"many", "    (1.00/100%)\r    (2.00/100%)\r    (50.00/100%)\r", "\r", 0.5, true},
		{"one and a part", "    (25.00/100%)\r    (26.0", "\r    (26.0", 0.25, true},
		{"a part", "    (26.0", "    (26.0", 0, false},
		{"no figure", "(x/100%)", "", 0, false},
		{"no number", "(NaN/100%)", "", 0, false},
		{"too much", "(25.00/100%)(100.01/100%)", "", 0.25, true},
		{"less than nothing", "(-1/100%)", "", 0, false},
		{"a long text", strings.Repeat("x", 100) + "(5", strings.Repeat("x", 16) + "(5", 0, false},
	} {
		done, rest, ok := lastProgress([]byte(test.text))
		if done != test.done || string(rest) != test.rest || ok != test.ok {
			t.Errorf("%s: got %v, %q, %v, want %v, %q, %v", test.name, done, rest, ok, test.done, test.rest, test.ok)
		}
	}
}

func TestProgressIsToldInWhateverPiecesItComes(t *testing.T) {
	text := "    (0.00/100%)\r    (33.25/100%)\r    (100.00/100%)\r\n"
	for size := 1; size <= len(text); size++ {
		var told []float64
		p := &progress{tell: func(done float64) { told = append(told, done) }}
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			if written, err := p.Write([]byte(rest[:n])); written != n || err != nil {
				t.Fatalf("Write takes %d bytes of %d, %v", written, n, err)
			}
			rest = rest[n:]
		}
		if len(told) == 0 || told[len(told)-1] != 1 {
			t.Errorf("in pieces of %d: told %v, want 1 at last", size, told)
		}
		if size < len("    (0.00/100%)") && !cmp.Equal(told, []float64{0, 0.3325, 1}) {
			t.Errorf("in pieces of %d: told %v, want all three", size, told)
		}
	}
}

func TestErrorIsOneLineWithTheNamesOfTheReader(t *testing.T) {
	file := open(t, []byte("x"))
	q := qemuImg{image: file, names: []string{"json:{}", file.Name(), "driver=raw,x=y", "/dev/sdb"}, secret: "AQBsKey"}
	for said, want := range map[string]string{
		"qemu-img: Could not open 'json:{}': no\n": "qemu-img: Could not open '" + file.Name() + "': no",
		"a\n  b\tc\r\n":                                "a b c",
		"'/proc/self/fd/3' and 'driver=raw,x=y'":       "'" + file.Name() + "' and '/dev/sdb'",
		"auth: failed to decode key 'AQBsKey'":         "auth: failed to decode key '(secret)'",
		"an escape \x1b[31m, a bell \a, no UTF-8 \xff": "an escape ?[31m, a bell ?, no UTF-8 ?",
		strings.Repeat("é", 1000):                      strings.Repeat("é", 200) + " …",
	} {
		if got := q.clean(said); got != want {
			t.Errorf("%q is told as\n%q\nwant\n%q", said, got, want)
		}
	}
}

func TestLimitsGrowWithTheDisk(t *testing.T) {
	want := []string{"--as=2147483648", "--cpu=660:665", "--fsize=10741153962", "--stack=8388608", "--core=0"}
	const size = 10*vm.GiB - 1
	if diff := cmp.Diff(want, convertLimits(size, fileLimit(Qcow2, 10*vm.GiB)).options()); diff != "" {
		t.Errorf("the limits of a copy of 10 GiB (-want +got):\n%s", diff)
	}
	if l := convertLimits(maxSize, fileLimit(Qcow2, maxSize)); l.cpu <= 0 || l.file < maxSize {
		t.Errorf("the limits of the largest disk are %+v", l)
	}
	for _, l := range []limits{infoLimits(), checkLimits(size), rbdLimits(size)} {
		if l.file != 0 {
			t.Errorf("%+v lets a file be written, where none is", l)
		}
	}
}

func TestNeedsOfWhatIsKnown(t *testing.T) {
	path := open(t, nil).Name()
	if err := os.Truncate(path, int64(4*vm.MiB)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, offset := range []int64{0, 1 << 20} {
		if _, err := file.WriteAt(make([]byte, 4096), offset); err != nil {
			t.Fatal(err)
		}
	}
	image := vm.Image{Format: Raw, Size: 4 * vm.MiB}
	for name, test := range map[string]struct {
		to   vm.Volume
		want vm.Bytes
	}{
		"raw":                    {vm.Volume{Format: Raw, Size: 8 * vm.MiB}, 8 * vm.MiB},
		"sparse raw":             {vm.Volume{Format: Raw, Size: 8 * vm.MiB, Sparse: true}, 8 * vm.KiB},
		"qcow2":                  {vm.Volume{Format: Qcow2, Size: 8 * vm.MiB}, 8*vm.MiB + qcow2Metadata(8*vm.MiB)},
		"sparse qcow2":           {vm.Volume{Format: Qcow2, Size: 8 * vm.MiB, Sparse: true}, 128*vm.KiB + qcow2Metadata(8*vm.MiB)},
		"raw, without a size":    {vm.Volume{Format: Raw}, 4 * vm.MiB},
		"one of a Ceph pool":     {vm.Volume{Format: Raw, Size: 8 * vm.MiB, RBD: &vm.RBD{}}, 0},
		"a sparse one of Ceph's": {vm.Volume{Format: Raw, Size: 8 * vm.MiB, Sparse: true, RBD: &vm.RBD{}}, 0},
	} {
		if got, err := Needs(context.Background(), file, image, test.to); got != test.want || err != nil {
			t.Errorf("%s: it needs %s, %v, want %s", name, got, err, test.want)
		}
	}
}

// Zeros that are written in an image take no room in a volume.
func TestZerosNeedNothing(t *testing.T) {
	content := make([]byte, 2*piece+100)
	copy(content[3*block+7:], "data")
	copy(content[piece-2:], "data") // in two blocks
	content[len(content)-1] = 1
	file := open(t, content)
	image, err := Inspect(context.Background(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{Raw, Qcow2} {
		to := vm.Volume{Format: format, Size: image.Size, Sparse: true}
		metadata := AtMost(image, to) - image.Size
		got, err := NeedsOfData(context.Background(), file, image, to)
		if want := 3*block + vm.Bytes(unitOf(format)) + metadata; got != want || err != nil {
			t.Errorf("as %s it needs %d, %v, want %d", format, got, err, want)
		}
		if rough, err := Needs(context.Background(), file, image, to); rough < image.Size || err != nil {
			t.Errorf("as %s, by what is allocated, it needs %d, %v, want %d at least", format, rough, err, image.Size)
		}
	}
}

func TestNeedsCountsEachClusterOnce(t *testing.T) {
	path := open(t, nil).Name()
	if err := os.Truncate(path, int64(vm.MiB)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// Two pieces in one cluster, and one in the next.
	for _, offset := range []int64{0, 32 << 10, 64 << 10} {
		if _, err := file.WriteAt(make([]byte, 4096), offset); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := allocated(file, int64(vm.MiB), Qcow2); got != 128*vm.KiB || err != nil {
		t.Errorf("the data takes %s, %v, want two clusters of 64KiB", got, err)
	}
}

func TestRawCopyGivenUp(t *testing.T) {
	file := open(t, make([]byte, 4*vm.MiB))
	image, err := Inspect(context.Background(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	to := vm.Volume{Path: open(t, nil).Name(), Format: Raw, Size: 4 * vm.MiB}
	if err := os.Truncate(to.Path, int64(to.Size)); err != nil {
		t.Fatal(err)
	}
	reason := errors.New("the task was stopped")
	ctx, cancel := context.WithCancelCause(context.Background())
	told := 0
	err = Fill(ctx, Copy{File: file, Image: image, To: to, Progress: func(float64) {
		told++
		cancel(reason)
	}})
	if !errors.Is(err, reason) || !strings.Contains(err.Error(), file.Name()) {
		t.Errorf("the error is %v, want one that names the image and why", err)
	}
	if told != 1 {
		t.Errorf("after it was given up, progress was told %d times", told-1)
	}
}

func TestInspectGivesUp(t *testing.T) {
	reason := errors.New("the task was stopped")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(reason)
	began := time.Now()
	_, err := Inspect(ctx, open(t, []byte("written just now")), "")
	if err != nil && !errors.Is(err, reason) {
		t.Errorf("the error is %v after %s, want none or the context's", err, time.Since(began))
	}
}
