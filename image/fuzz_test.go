package image

import (
	"bytes"
	"testing"

	"nomad-driver-virt/vm"
)

// What passes has a size that can be, and stands alone.
func FuzzInspect(f *testing.F) {
	for _, seed := range [][]byte{
		qcow2(2, nil),
		qcow2(3, nil),
		qcow2(3, features(featureExternalData)),
		qcow2(3, backing),
		qcow2(3, nil, extension(0x6803f857, "names"), extension(extensionExternalData, "/etc/passwd")),
		qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 1<<64 - 1 })),
		qcow2(3, nil)[:75],
		vdi(nil),
		vdi(func(h *vdiHeader) { h.Type = 4 }),
		vpc(footer(vpcDynamic), footer(vpcDifferencing)),
		vpc(nil, footer(vpcFixed)),
		vmdk(goodDescriptor, nil)[:12<<10],
		vmdk(goodDescriptor+"parentFileNameHint=\"/etc/passwd\"\n", nil)[:12<<10],
		at(0, "# Disk DescriptorFile\nRW 100 FLAT \"/etc/passwd\" 0\n"),
		at(0, "vhdxfile"),
		at(64, "\x7f\x10\xda\xbe"),
		[]byte("raw"),
	} {
		f.Add(seed, "")
		f.Add(seed, Qcow2)
	}
	f.Fuzz(func(t *testing.T, content []byte, format string) {
		found, size, err := readHeader(bytes.NewReader(content), int64(len(content)), format)
		if err != nil {
			return
		}
		if format != "" && found != format {
			t.Errorf("asked for %q, it lets %q through", format, found)
		}
		if size > maxSize {
			t.Errorf("the size is %d", size)
		}
		switch found {
		case Raw:
			if size != vm.Bytes(len(content)) || format == "" && bytes.HasPrefix(content, []byte("QFI\xfb")) {
				t.Errorf("%d bytes are a raw image of %s: %.80q", len(content), size, content)
			}
		case Qcow2:
			if size == 0 || !isZero(content[8:20]) || !isZero(content[32:36]) {
				t.Errorf("let through as %s: %.80q", size, content)
			}
			if content[7] == 3 && content[79]&featureExternalData != 0 {
				t.Errorf("let through with a data file: %.80q", content)
			}
		case VMDK:
			read := content[:min(len(content), descriptorMin)] // by QEMU
			if size != 0 || isZero(content[12:20]) || bytes.Contains(read, []byte("parentFileNameHint")) {
				t.Errorf("let through as %s: %.80q", size, content)
			}
		case VDI:
			if size != 0 || !isZero(content[424:456]) {
				t.Errorf("let through as %s, with a parent: %.80q", size, content)
			}
		case VPC, VHDX:
			if size != 0 {
				t.Errorf("let through as %s: only QEMU tells", size)
			}
		default:
			t.Errorf("let through as %q", found)
		}
	})
}

// The descriptor of a VMDK that passes has one extent, of no other directory.
func FuzzInspectDescriptor(f *testing.F) {
	f.Add(goodDescriptor)
	f.Add(descriptorWith("SPARSE \"disk.vmdk\"", "FLAT \"/etc/passwd\" 0"))
	f.Add(descriptorWith("RW 131072 SPARSE \"disk.vmdk\"", "RW"))
	f.Add(descriptorWith("parentCID=ffffffff", "parentCID = \"FFFFFFFF\""))
	f.Add("=\n=\r\"\x00RW SPARSE")
	f.Fuzz(func(t *testing.T, text string) {
		if judgeDescriptor(text) == nil && (bytes.Count([]byte(text), []byte("SPARSE")) == 0 ||
			bytes.Contains([]byte(text), []byte("parentFileNameHint"))) {
			t.Errorf("let through: %q", text)
		}
	})
}

// A VHDX is larger than what is good for a fuzzer: what leads to its
// parameters is made of the numbers that a stranger may choose.
func FuzzInspectVHDX(f *testing.F) {
	f.Add(uint32(1), uint64(256<<10), uint16(1), uint32(4096), uint32(0))
	f.Add(uint32(1<<31), uint64(1<<63), uint16(1<<15), uint32(1<<31), uint32(vhdxHasParent))
	f.Fuzz(func(t *testing.T, regions uint32, metadata uint64, items uint16, offset, flags uint32) {
		content := vhdx(flags, func(t *vhdxRegions, r *vhdxRegion, m *vhdxMetadata, i *vhdxItem) {
			t.Count, r.Offset, m.Count, i.Offset = regions, metadata, items, offset
		})
		err := inspectVHDX(bytes.NewReader(content))
		if err == nil && regions > 0 && metadata == 256<<10 && items > 0 && offset == 4096 && flags&vhdxHasParent != 0 {
			t.Error("let through with a parent")
		}
	})
}
