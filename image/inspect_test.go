package image

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

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

func TestInspectTellsFormatAndSize(t *testing.T) {
	whole := qcow2(3, nil)
	for _, test := range []struct {
		name    string
		content []byte
		format  string // that the job asks for
		want    string
		size    vm.Bytes
	}{
		{"qcow2 v3", whole, "", "qcow2", 10 * vm.GiB},
		{"qcow2 v3, as asked for", whole, "qcow2", "qcow2", 10 * vm.GiB},
		{"qcow2 v2", qcow2(2, nil), "", "qcow2", 10 * vm.GiB},
		{"qcow2 that was not closed", qcow2(3, features(1)), "", "qcow2", 10 * vm.GiB},
		{"qcow2 that compresses by zstd", qcow2(3, features(1<<3)), "", "qcow2", 10 * vm.GiB},
		{"qcow2 with names of features", qcow2(3, nil, extension(0x6803f857, "\x00\x00dirty bit")), "", "qcow2", 10 * vm.GiB},
		{"qcow2 v2 with a longer head", qcow2(2, nil, extension(0x12345678, "of another program's")), "", "qcow2", 10 * vm.GiB},
		{"qcow2 that ends within a sector", qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 1023 })), "", "qcow2", 512},
		{"qcow2, taken as raw", whole, "raw", "raw", vm.Bytes(len(whole))},
		{"overlay, taken as raw", qcow2(3, backing), "raw", "raw", vm.Bytes(len(whole))},
		{"LUKS, taken as raw", at(0, "LUKS\xba\xbe"), "raw", "raw", 1024},
		{"raw", make([]byte, 4096), "", "raw", 4096},
		{"raw, as asked for", make([]byte, 4096), "raw", "raw", 4096},
		{"raw of one byte", []byte{0}, "", "raw", 1},
		{"raw whose end looks like a signature", at(1020, "QFI\xfb"), "", "raw", 1024},
		{"raw that is shorter than a footer", []byte("conecti"), "", "raw", 7},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := open(t, test.content)
			got, err := Inspect(context.Background(), file, test.format)
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

// The sizes of these are QEMU's to tell.
func TestHeadersThatStandAlonePass(t *testing.T) {
	for name, test := range map[string]struct {
		content []byte
		want    string
	}{
		"vmdk":                       {vmdk(goodDescriptor, nil), VMDK},
		"vmdk that was streamed":     {vmdk(descriptorWith("monolithicSparse", "streamOptimized"), nil), VMDK},
		"vmdk with CRLF":             {vmdk(strings.ReplaceAll(goodDescriptor, "\n", "\r\n"), nil), VMDK},
		"vmdk that is read-only":     {vmdk(descriptorWith("RW 131072", "RDONLY 131072"), nil), VMDK},
		"vmdk, long name":            {vmdk(descriptorWith("disk.vmdk", "my disk of 2024 (1).vmdk"), nil), VMDK},
		"vdi":                        {vdi(nil), VDI},
		"vdi of a fixed size":        {vdi(func(h *vdiHeader) { h.Type = vdiStatic }), VDI},
		"vdi with a snapshot's UUID": {vdi(func(h *vdiHeader) { h.LastSnapshot[3] = 1 }), VDI},
		"vhdx":                       {vhdx(0, nil), VHDX},
		"vhdx of a fixed size":       {vhdx(1, nil), VHDX},
		"vpc of a dynamic size":      {vpc(footer(vpcDynamic), footer(vpcDynamic)), VPC},
		"vpc of a fixed size":        {vpc(nil, footer(vpcFixed)), VPC},
	} {
		t.Run(name, func(t *testing.T) {
			for _, format := range []string{"", test.want} {
				found, size, err := readHeader(bytes.NewReader(test.content), int64(len(test.content)), format)
				if found != test.want || size != 0 || err != nil {
					t.Errorf("asked for %q: got %q, %s and the error %v, want %q and no size: QEMU is asked for it",
						format, found, size, err, test.want)
				}
			}
		})
	}
}

func features(bits uint64) func(*qcow2Header, *qcow2Header3) {
	return func(_ *qcow2Header, h3 *qcow2Header3) { h3.IncompatibleFeatures = bits }
}

func backing(h *qcow2Header, _ *qcow2Header3) { h.BackingFileOffset, h.BackingFileSize = 112, 11 }
