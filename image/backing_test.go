package image

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func TestBackingFile(t *testing.T) {
	header := func(offset uint64, size uint32, name string) string {
		head := make([]byte, 104)
		copy(head, "QFI\xfb")
		binary.BigEndian.PutUint32(head[4:], 3)
		binary.BigEndian.PutUint64(head[8:], offset)
		binary.BigEndian.PutUint32(head[16:], size)
		return string(head) + name
	}
	for _, test := range []struct {
		name, content, want string
	}{
		{name: "an overlay", content: header(104, 9, "/pool/base and more"), want: "/pool/bas"},
		{name: "a whole qcow2", content: header(0, 0, "")},
		{name: "no qcow2", content: "\x00\x00\x00\x00" + header(104, 4, "name")},
		{name: "an empty file"},
		{name: "a few bytes", content: "QFI\xfb"},
		{name: "a name behind the end", content: header(1<<20, 4, "name")},
		{name: "a name at no place", content: header(1<<63, 4, "name")},
		{name: "a name of 4 GiB", content: header(104, 1<<32-1, "name")},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "volume")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			got, err := BackingFile(file)
			if got != test.want || err != nil {
				t.Errorf("got %q and error %v, want %q", got, err, test.want)
			}
		})
	}
}
