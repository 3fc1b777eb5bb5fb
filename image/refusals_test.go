package image

import (
	"context"
	"testing"

	"nomad-driver-virt/vm"
)

// What more than one hostile image is refused with.
const (
	trusted   = "convert it where it comes from and is trusted: qemu-img convert -O qcow2"
	whole     = "make it whole where both are: qemu-img convert -O qcow2"
	together  = "which would be read with it; " + whole
	oneFile   = "make one file of them where they are: qemu-img convert -O qcow2"
	isOverlay = "the image is an overlay of another file, " + together
	hasData   = "the image keeps its data in another file, " + together
	encrypted = "the image is encrypted, which is not supported; decrypt it: qemu-img convert"
	vmdkFiles = "the image is a VMDK that refers to other files, which would be read with it; " + oneFile
	vmdkTypes = ", and only monolithicSparse and streamOptimized are one file; " + trusted
	vmdkPlace = "the image has a VMDK descriptor where none can be; it is damaged, fetch it again"
	vhdxSense = "the image has a VHDX header that makes no sense; it is damaged, fetch it again"
	noSize    = "the image is a disk of no size; it is damaged, or was never written: fetch it again"
)

// refusal is an image, what the job says that it is, and what it is told.
type refusal struct {
	name    string
	content []byte
	format  string
	refusal string
}

// refuse has images inspected. Nothing of this opens one with another program:
// there is no qemu-img on the path.
func refuse(t *testing.T, all []refusal) {
	t.Helper()
	t.Setenv("PATH", t.TempDir())
	for _, test := range all {
		t.Run(test.name, func(t *testing.T) {
			got, err := Inspect(context.Background(), open(t, test.content), test.format)
			if err == nil || err.Error() != test.refusal {
				t.Errorf("got %+v and the error\n%v\nwant\n%s", got, err, test.refusal)
			}
			if got != (vm.Image{}) {
				t.Errorf("what is refused is told as %+v", got)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	good := qcow2(3, nil)
	refuse(t, []refusal{
		{"empty", nil, "", "the image is empty"},
		{"empty, taken as raw", nil, "raw", "the image is empty"},
		{
			"raw, said to be qcow2",
			make([]byte, 4096),
			"qcow2", "the image is said to be qcow2 and is raw; leave source.format out to have it detected",
		},
		{
			"qcow2, said to be vmdk",
			good,
			"vmdk", "the image is said to be vmdk and is qcow2; leave source.format out to have it detected",
		},
		{"parallels", at(0, "WithoutFreeSpace"), "", "images of format parallels are not supported; " + trusted},
		{
			"parallels of a later version",
			at(0, "WithouFreSpacExt"),
			"parallels", "images of format parallels are not supported; " + trusted,
		},
		{"qed", at(0, "QED\x00"), "", "images of format qed are not supported; " + trusted},
		{"dmg", at(512, "koly"), "", "images of format dmg are not supported; " + trusted},
		{
			"LUKS",
			at(0, "LUKS\xba\xbe"),
			"", "the image is encrypted by LUKS; decrypt it, or have it copied as it is with source.format = \"raw\"",
		},

		{"qcow2 with a backing file", qcow2(3, backing), "", isOverlay},
		{
			"qcow2 with the name of a backing file and no place",
			qcow2(2, qcow2Head(func(h *qcow2Header) { h.BackingFileSize = 11 })),
			"", isOverlay,
		},
		{"qcow2 with a data file", qcow2(3, features(featureExternalData)), "", hasData},
		{
			"qcow2 with the name of a data file",
			qcow2(3, nil, extension(extensionExternalData, "/etc/passwd")),
			"", hasData,
		},
		{
			"qcow2 with that behind another extension",
			qcow2(3, nil, extension(0x6803f857, "names"), extension(extensionExternalData, "/etc/passwd")),
			"", hasData,
		},
		{
			"qcow2 v2 with the name of a data file",
			qcow2(2, nil, extension(extensionExternalData, "/etc/passwd")),
			"", hasData,
		},
		{
			"qcow2 with an extension that is too long",
			qcow2(3, nil, extension(1, "x"), []byte{0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff}),
			"", "the image has a qcow2 header extension that is longer than the header; it is damaged, fetch it again",
		},
		{"qcow2 encrypted by AES", qcow2(2, qcow2Head(func(h *qcow2Header) { h.CryptMethod = 1 })), "", encrypted},
		{"qcow2 encrypted by LUKS", qcow2(3, qcow2Head(func(h *qcow2Header) { h.CryptMethod = 2 })), "", encrypted},
		{
			"qcow2 with a place for keys",
			qcow2(3, nil, extension(extensionEncryption, "0123456789abcdef")),
			"", encrypted,
		},
		{
			"qcow2 marked as corrupt",
			qcow2(3, features(featureCorrupt)),
			"", "the image is marked as damaged; fetch it again, or repair it: qemu-img check -r all",
		},
		{
			"qcow2 with features of the future",
			qcow2(3, features(1<<63|1)),
			"", "the image is qcow2 with features that are not known (bits 0x8000000000000000)",
		},
		{"qcow2 of no size", qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 0 })), "", noSize},
		{"qcow2 of less than a sector", qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 511 })), "", noSize},
		{
			"qcow2 of an absurd size",
			qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 1<<64 - 1 })),
			"", "the image says that it is a disk of 16777216.0TiB, which no disk can be; it is damaged, fetch it again",
		},
		{
			"qcow2 just larger than can be",
			qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = uint64(maxSize) + 512 })),
			"", "the image says that it is a disk of 65536.0TiB, which no disk can be; it is damaged, fetch it again",
		},
		{"qcow2 of version 4", qcow2(4, nil), "", "the image is qcow2 of version 4, which is not known; " + trusted},
		{"qcow of version 1", qcow2(1, nil), "", "the image is qcow2 of version 1, which is not known; " + trusted},
		{
			"qcow2 with clusters of 1 byte",
			qcow2(3, qcow2Head(func(h *qcow2Header) { h.ClusterBits = 0 })),
			"", "the image has qcow2 clusters of 2^0 bytes, which cannot be; it is damaged, fetch it again",
		},
		{
			"qcow2 with endless clusters",
			qcow2(3, qcow2Head(func(h *qcow2Header) { h.ClusterBits = 1<<32 - 1 })),
			"", "the image has qcow2 clusters of 2^4294967295 bytes, which cannot be; it is damaged, fetch it again",
		},
		{
			"qcow2 with a header of version 2's length",
			qcow2(3, func(_ *qcow2Header, h3 *qcow2Header3) { h3.HeaderLength = 72 }),
			"", "the image has a qcow2 header of 72 bytes, which cannot be; it is damaged, fetch it again",
		},
		{
			"qcow2 with a header of 4 GiB",
			qcow2(3, func(_ *qcow2Header, h3 *qcow2Header3) { h3.HeaderLength = 1<<32 - 1 }),
			"", "the image has a qcow2 header of 4294967295 bytes, which cannot be; it is damaged, fetch it again",
		},
		{"qcow2 cut off after its signature", good[:4], "", cutOff("qcow2")},
		{"qcow2 cut off in its header", good[:71], "", cutOff("qcow2")},
		{"qcow2 v3 cut off before its features", good[:75], "", cutOff("qcow2")},
		{"qcow2 v3 cut off before its extensions", good[:104], "", cutOff("qcow2")},
	})
}

func qcow2Head(change func(*qcow2Header)) func(*qcow2Header, *qcow2Header3) {
	return func(h *qcow2Header, _ *qcow2Header3) { change(h) }
}

func cutOff(format string) string {
	return "the image is cut off within its " + format + " header; fetch it again"
}
