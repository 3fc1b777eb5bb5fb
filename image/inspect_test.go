package image

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

// qcow2 returns the head of a qcow2 file with a virtual disk of 10 GiB, after
// change has had its way with it, and padding.
func qcow2(version uint32, features uint64, change func(*qcow2Header)) []byte {
	h := qcow2Header{Magic: [4]byte{'Q', 'F', 'I', 0xfb}, Version: version, ClusterBits: 16, Size: uint64(10 * vm.GiB)}
	if change != nil {
		change(&h)
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.BigEndian, h)
	if version >= 3 {
		_ = binary.Write(&b, binary.BigEndian, features)
	}
	return append(b.Bytes(), make([]byte, 512)...)
}

// at returns a file of 1 KiB with text at an offset.
func at(offset int, text string) []byte {
	content := make([]byte, 1024)
	copy(content[offset:], text)
	return content
}

func open(t *testing.T, content []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func TestInspect(t *testing.T) {
	whole := qcow2(3, 0, nil)
	for _, test := range []struct {
		name    string
		content []byte
		format  string // that the job asks for
		want    string
		size    vm.Bytes
		refused string // what the error says
	}{
		{"qcow2 v3", whole, "", "qcow2", 10 * vm.GiB, ""},
		{"qcow2 v3, as asked for", whole, "qcow2", "qcow2", 10 * vm.GiB, ""},
		{"qcow2 v2", qcow2(2, 0, nil), "", "qcow2", 10 * vm.GiB, ""},
		{"qcow2 v3 with lazy refcounts", qcow2(3, 1, nil), "", "qcow2", 10 * vm.GiB, ""},
		{"qcow2, taken as raw", whole, "raw", "raw", vm.Bytes(len(whole)), ""},
		{"raw", make([]byte, 4096), "", "raw", 4096, ""},
		{"raw, as asked for", make([]byte, 4096), "raw", "raw", 4096, ""},
		{"raw of one byte", []byte{0}, "", "raw", 1, ""},
		{"raw whose end looks like a signature", at(1020, "QFI\xfb"), "", "raw", 1024, ""},

		{"empty", nil, "", "", 0, "the image is empty"},
		{"empty, taken as raw", nil, "raw", "", 0, "the image is empty"},
		{"raw, said to be qcow2", make([]byte, 4096), "qcow2", "", 0, "said to be qcow2 and is raw; leave source.format out"},
		{"qcow2, said to be vmdk", whole, "vmdk", "", 0, "said to be vmdk and is qcow2"},

		{
			"qcow2 with a backing file",
			qcow2(3, 0, func(h *qcow2Header) { h.BackingFileOffset, h.BackingFileSize = 112, 11 }),
			"", "", 0, "an overlay of another file",
		},
		{
			"qcow2 with the name of a backing file and no place",
			qcow2(2, 0, func(h *qcow2Header) { h.BackingFileSize = 11 }),
			"", "", 0, "an overlay of another file",
		},
		{"qcow2 with a data file", qcow2(3, externalDataFile, nil), "", "", 0, "its data in another file"},
		{"qcow2 encrypted by AES", qcow2(2, 0, func(h *qcow2Header) { h.CryptMethod = 1 }), "", "", 0, "encrypted"},
		{"qcow2 encrypted by LUKS", qcow2(3, 0, func(h *qcow2Header) { h.CryptMethod = 2 }), "", "", 0, "encrypted"},
		{"qcow2 of no size", qcow2(3, 0, func(h *qcow2Header) { h.Size = 0 }), "", "", 0, "no size"},
		{"qcow2 of version 4", qcow2(4, 0, nil), "", "", 0, "version 4"},
		{"qcow2 of version 1", qcow2(1, 0, nil), "", "", 0, "version 1"},
		{"qcow2 cut off after its signature", whole[:4], "", "", 0, "cut off"},
		{"qcow2 cut off in its header", whole[:71], "", "", 0, "cut off"},
		{"qcow2 v3 cut off before its features", whole[:75], "", "", 0, "cut off"},

		{"vmdk", at(0, "KDMV"), "", "", 0, "vmdk are not supported yet"},
		{"vmdk of ESX", at(0, "COWD"), "", "", 0, "vmdk are not supported yet"},
		{"vmdk that is a text", at(0, "# Disk DescriptorFile\n"), "", "", 0, "vmdk are not supported yet"},
		{"vhdx", at(0, "vhdxfile"), "", "", 0, "vhdx are not supported yet"},
		{"vpc of a dynamic size", at(0, "conectix"), "", "", 0, "vpc are not supported yet"},
		{"vpc of a fixed size", at(512, "conectix"), "", "", 0, "vpc are not supported yet"},
		{"vdi", at(64, "\x7f\x10\xda\xbe"), "", "", 0, "vdi are not supported yet"},
		{"parallels", at(0, "WithoutFreeSpace"), "", "", 0, "parallels are not supported yet"},
		{"parallels of a later version", at(0, "WithouFreSpacExt"), "", "", 0, "parallels are not supported yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := open(t, test.content)
			got, err := Inspect(file, test.format)
			if test.refused != "" {
				if err == nil || !strings.Contains(err.Error(), test.refused) {
					t.Errorf("got %+v and the error %v, want an error that says %q", got, err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Version == "" {
				t.Error("the image has no version")
			}
			got.Version = ""
			if want := (vm.Image{Path: file.Name(), Format: test.want, Size: test.size}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// What Inspect lets through is raw, or a qcow2 that stands alone.
func FuzzInspect(f *testing.F) {
	f.Add(qcow2(2, 0, nil))
	f.Add(qcow2(3, 0, nil))
	f.Add(qcow2(3, externalDataFile, nil))
	f.Add(qcow2(3, 0, func(h *qcow2Header) { h.BackingFileOffset = 104 }))
	f.Add(qcow2(3, 0, nil)[:75])
	f.Add(at(64, "\x7f\x10\xda\xbe"))
	f.Add([]byte("raw"))
	f.Fuzz(func(t *testing.T, content []byte) {
		file := open(t, content)
		got, err := Inspect(file, "")
		if err != nil {
			return
		}
		switch got.Format {
		case Raw:
			if got.Size != vm.Bytes(len(content)) || bytes.HasPrefix(content, []byte("QFI\xfb")) {
				t.Errorf("%d bytes are a raw image of %s: %.80q", len(content), got.Size, content)
			}
		case Qcow2:
			backing, crypt := content[8:20], content[32:36]
			if got.Size == 0 || !bytes.Equal(backing, make([]byte, 12)) || !bytes.Equal(crypt, make([]byte, 4)) {
				t.Errorf("let through as %+v: %.80q", got, content)
			}
			if content[7] == 3 && content[79]&externalDataFile != 0 {
				t.Errorf("let through with a data file: %.80q", content)
			}
		default:
			t.Errorf("let through as %q", got.Format)
		}
	})
}
