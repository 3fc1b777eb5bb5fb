package image

import (
	"bytes"
	"encoding/binary"
	"strings"

	"nomad-driver-virt/vm"
)

// What follows makes images as a stranger would: their heads, right but for
// what change does to them.

// qcow2 returns the head of a qcow2 file with a virtual disk of 10 GiB.
func qcow2(version uint32, change func(*qcow2Header, *qcow2Header3), extensions ...[]byte) []byte {
	h := qcow2Header{Magic: [4]byte{'Q', 'F', 'I', 0xfb}, Version: version, ClusterBits: 16, Size: uint64(10 * vm.GiB)}
	h3 := qcow2Header3{RefcountOrder: 4, HeaderLength: qcow2HeaderSize3}
	if change != nil {
		change(&h, &h3)
	}
	parts := []any{h}
	if version >= 3 {
		parts = append(parts, h3)
	}
	for _, e := range extensions {
		parts = append(parts, e)
	}
	return encoded(binary.BigEndian, append(parts, make([]byte, 512))...)
}

// extension returns a header extension of a qcow2, padded.
func extension(kind uint32, data string) []byte {
	padded := make([]byte, (len(data)+7)/8*8)
	copy(padded, data)
	return encoded(binary.BigEndian, kind, uint32(len(data)), padded)
}

const goodDescriptor = `# Disk DescriptorFile
version=1
CID=75ccf487
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 131072 SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "ide"
`

// vmdk returns the head of a VMDK of 64 MiB with a descriptor.
func vmdk(descriptor string, change func(*vmdkHeader)) []byte {
	h := vmdkHeader{Magic: [4]byte{'K', 'D', 'M', 'V'}, Version: 1, Flags: 3, Capacity: 131072, GrainSize: 128,
		DescriptorOffset: 1, DescriptorSize: 20}
	if change != nil {
		change(&h)
	}
	image := make([]byte, 64<<10)
	copy(image, encoded(binary.LittleEndian, h))
	copy(image[512:], descriptor)
	return image
}

// without returns the good descriptor with a line changed.
func descriptorWith(old, replacement string) string {
	if !strings.Contains(goodDescriptor, old) {
		panic("the descriptor has no " + old)
	}
	return strings.Replace(goodDescriptor, old, replacement, 1)
}

// vdi returns the head of a VDI of 64 MiB.
func vdi(change func(*vdiHeader)) []byte {
	h := vdiHeader{Signature: 0xbeda107f, Version: 0x10001, HeaderSize: 0x180, Type: vdiDynamic, BlockMapOffset: 512,
		DataOffset: 1024, SectorSize: 512, DiskSize: uint64(64 * vm.MiB), BlockSize: uint32(vm.MiB), Blocks: 64}
	if change != nil {
		change(&h)
	}
	return encoded(binary.LittleEndian, h, make([]byte, 1024-binary.Size(h)))
}

// vpc returns a VHD with the footers that are asked for, and nothing between.
func vpc(first, last *vpcFooter) []byte {
	image := make([]byte, 8192)
	if first != nil {
		copy(image, encoded(binary.BigEndian, first))
	}
	if last != nil {
		copy(image[len(image)-512:], encoded(binary.BigEndian, last))
	}
	return image
}

func footer(kind uint32) *vpcFooter {
	return &vpcFooter{Cookie: [8]byte([]byte("conectix")), Size: uint64(64 * vm.MiB), Type: kind}
}

// vhdx returns the parts of a VHDX that lead to its file parameters.
func vhdx(flags uint32, change func(*vhdxRegions, *vhdxRegion, *vhdxMetadata, *vhdxItem)) []byte {
	const metadata = 256 << 10
	regions := vhdxRegions{Signature: [4]byte([]byte("regi")), Count: 1}
	region := vhdxRegion{GUID: guid(vhdxMetadataRegion), Offset: metadata, Length: 1 << 20}
	items := vhdxMetadata{Signature: [8]byte([]byte("metadata")), Count: 1}
	item := vhdxItem{GUID: guid(vhdxFileParameters), Offset: 4096, Length: 8}
	if change != nil {
		change(&regions, &region, &items, &item)
	}
	image := make([]byte, 512<<10)
	copy(image, "vhdxfile")
	copy(image[vhdxRegionTable:], encoded(binary.LittleEndian, regions, region))
	copy(image[metadata:], encoded(binary.LittleEndian, items, item))
	copy(image[metadata+4096:], encoded(binary.LittleEndian, uint32(32<<20), flags))
	return image
}

func guid(text string) [16]byte { return [16]byte([]byte(text)) }

// at returns a file of 1 KiB with text at an offset.
func at(offset int, text string) []byte {
	content := make([]byte, 1024)
	copy(content[offset:], text)
	return content
}

func encoded(order binary.ByteOrder, parts ...any) []byte {
	var b bytes.Buffer
	for _, part := range parts {
		if err := binary.Write(&b, order, part); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}
