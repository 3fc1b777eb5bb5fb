package image

import "testing"

func TestInspectRefusesOtherPrograms(t *testing.T) {
	refuse(t, []refusal{
		{
			"vmdk of ESX",
			at(0, "COWD"),
			"", "the image is a VMDK of an old ESX (COWD), which is not supported; " + trusted,
		},
		{
			"vmdk that is a text",
			at(0, "# Disk DescriptorFile\nRW 100 FLAT \"/etc/passwd\" 0\n"),
			"vmdk",
			"the image is a VMDK descriptor, a text that names the files of a disk, which would be read with it; " + oneFile,
		},
		{
			"vmdk of no capacity, with a flat extent",
			vmdk("createType=\"monolithicFlat\"\nRW 100 FLAT \"/etc/passwd\" 0\n", func(h *vmdkHeader) { h.Capacity = 0 }),
			"", vmdkFiles,
		},
		{
			"vmdk with a flat extent",
			vmdk(descriptorWith("SPARSE \"disk.vmdk\"", "FLAT \"/etc/passwd\" 0"), nil),
			"", vmdkFiles,
		},
		{
			"vmdk with another directory's extent",
			vmdk(descriptorWith("disk.vmdk", "../disk.vmdk"), nil),
			"", vmdkFiles,
		},
		{"vmdk with two extents", vmdk(goodDescriptor+"RW 100 SPARSE \"second.vmdk\"\n", nil), "", vmdkFiles},
		{
			"vmdk with an extent that is not accessed",
			vmdk(goodDescriptor+"NOACCESS 100 ZERO\n", nil),
			"", vmdkFiles,
		},
		{"vmdk with no extent", vmdk(descriptorWith("RW 131072 SPARSE \"disk.vmdk\"", ""), nil), "", vmdkFiles},
		{
			"vmdk with an extent of nothing",
			vmdk(descriptorWith("RW 131072 SPARSE \"disk.vmdk\"", "RW"), nil),
			"", vmdkFiles,
		},
		{
			"vmdk with a parent's CID",
			vmdk(descriptorWith("parentCID=ffffffff", "parentCID=12345678"), nil),
			"", isOverlay,
		},
		{
			"vmdk with a parent's name",
			vmdk(goodDescriptor+"parentFileNameHint=\"/etc/passwd\"\n", nil),
			"", isOverlay,
		},
		{
			"vmdk with a parent's name behind the text",
			vmdk(goodDescriptor+"\x00parentFileNameHint=\"/etc/passwd\"\n", nil),
			"", isOverlay,
		},
		{
			"vmdk with a parent's name behind what it says is the text",
			vmdk(goodDescriptor+"\x00parentFileNameHint=\"/etc/passwd\"\n", func(h *vmdkHeader) { h.DescriptorSize = 1 }),
			"", isOverlay,
		},
		{
			"vmdk with a parent's name beyond what QEMU reads",
			vmdk(goodDescriptor+string(make([]byte, 12<<10))+"parentFileNameHint=\"x\"",
				func(h *vmdkHeader) { h.DescriptorSize = 100 }),
			"", isOverlay,
		},
		{
			"vmdk in parts",
			vmdk(descriptorWith("monolithicSparse", "twoGbMaxExtentSparse"), nil),
			"", "the image is a VMDK of type \"twoGbMaxExtentSparse\"" + vmdkTypes,
		},
		{
			"vmdk of a type that is a story",
			vmdk(descriptorWith("monolithicSparse", "a type that is much longer than any type can be"), nil),
			"", "the image is a VMDK of type \"a type that is much longer than any type\"" + vmdkTypes,
		},
		{"vmdk of no type", vmdk("", nil), "", "the image is a VMDK of type \"\"" + vmdkTypes},
		{
			"vmdk without a descriptor",
			vmdk("", func(h *vmdkHeader) { h.DescriptorOffset = 0 }),
			"", "the image is a VMDK without a descriptor, which is one part of a disk of several files; " + oneFile,
		},
		{
			"vmdk with a descriptor elsewhere",
			vmdk(goodDescriptor, func(h *vmdkHeader) { h.DescriptorOffset = 2 }),
			"", vmdkPlace,
		},
		{
			"vmdk with a descriptor beyond the end of files",
			vmdk(goodDescriptor, func(h *vmdkHeader) { h.DescriptorOffset = 1 << 63 }),
			"", vmdkPlace,
		},
		{
			"vmdk with an endless descriptor",
			vmdk(goodDescriptor, func(h *vmdkHeader) { h.DescriptorSize = 1 << 60 }),
			"", vmdkPlace,
		},
		{"vmdk cut off in its header", vmdk(goodDescriptor, nil)[:40], "", cutOff("vmdk")},
		{"vmdk cut off in its descriptor", vmdk(goodDescriptor, nil)[:10000], "", cutOff("vmdk")},

		{"vdi with a parent", vdi(func(h *vdiHeader) { h.Parent[15] = 1 }), "", isOverlay},
		{"vdi with a link", vdi(func(h *vdiHeader) { h.Link[0] = 1 }), "", isOverlay},
		{
			"vdi of undo",
			vdi(func(h *vdiHeader) { h.Type = 3 }),
			"", "the image is a VDI of type 3, which belongs to another file; " + whole,
		},
		{
			"vdi of differences",
			vdi(func(h *vdiHeader) { h.Type = 4 }),
			"", "the image is a VDI of type 4, which belongs to another file; " + whole,
		},
		{"vdi of no size", vdi(func(h *vdiHeader) { h.DiskSize = 0 }), "", noSize},
		{"vdi cut off in its header", vdi(nil)[:400], "", cutOff("vdi")},

		{"vpc of differences", vpc(footer(vpcDifferencing), footer(vpcDifferencing)), "", isOverlay},
		{
			"vpc that is dynamic first and of differences last",
			vpc(footer(vpcDynamic), footer(vpcDifferencing)),
			"", isOverlay,
		},
		{"vpc that has one footer, of differences", vpc(nil, footer(vpcDifferencing)), "", isOverlay},
		{
			"vpc of another type",
			vpc(footer(5), nil),
			"", "the image is a VHD of type 5, which is not known; " + trusted,
		},
		{"vpc of no size", vpc(nil, &vpcFooter{Cookie: [8]byte([]byte("conectix")), Type: vpcFixed}), "", noSize},
		{"vpc cut off in its header", []byte("conectix"), "", cutOff("vpc")},

		{"vhdx with a parent", vhdx(vhdxHasParent, nil), "", isOverlay},
		{
			"vhdx with a place for a parent",
			vhdx(0, func(_ *vhdxRegions, _ *vhdxRegion, _ *vhdxMetadata, i *vhdxItem) { i.GUID = guid(vhdxParentLocator) }),
			"", isOverlay,
		},
		{
			"vhdx without regions",
			vhdx(0, func(r *vhdxRegions, _ *vhdxRegion, _ *vhdxMetadata, _ *vhdxItem) { r.Count = 0 }),
			"", vhdxSense,
		},
		{
			"vhdx with endless regions",
			vhdx(0, func(r *vhdxRegions, _ *vhdxRegion, _ *vhdxMetadata, _ *vhdxItem) { r.Count = 1<<32 - 1 }),
			"", vhdxSense,
		},
		{
			"vhdx without metadata",
			vhdx(0, func(_ *vhdxRegions, _ *vhdxRegion, m *vhdxMetadata, _ *vhdxItem) { m.Signature[0] = 0 }),
			"", vhdxSense,
		},
		{
			"vhdx with metadata beyond the end of files",
			vhdx(0, func(_ *vhdxRegions, r *vhdxRegion, _ *vhdxMetadata, _ *vhdxItem) { r.Offset = 1<<64 - 1 }),
			"", vhdxSense,
		},
		{
			"vhdx with metadata beyond its end",
			vhdx(0, func(_ *vhdxRegions, r *vhdxRegion, _ *vhdxMetadata, _ *vhdxItem) { r.Offset = 1 << 40 }),
			"", cutOff("vhdx"),
		},
		{
			"vhdx with parameters beyond its end",
			vhdx(0, func(_ *vhdxRegions, _ *vhdxRegion, _ *vhdxMetadata, i *vhdxItem) { i.Offset = 1<<32 - 1 }),
			"", cutOff("vhdx"),
		},
		{"vhdx cut off after its signature", at(0, "vhdxfile"), "", cutOff("vhdx")},
	})
}
