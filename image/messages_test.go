package image

import (
	"context"
	"flag"
	"strings"
	"testing"

	"nomad-driver-virt/doctest"
	"nomad-driver-virt/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMessagesOfImages(t *testing.T) {
	t.Setenv("PATH", t.TempDir()) // nothing of this opens an image with another program
	var all []doctest.Message
	for _, test := range []struct {
		content []byte
		format  string
		why     string
	}{
		{nil, "", "Was it fetched to its end?"},
		{make([]byte, 4096), "qcow2", ""},
		{at(0, "LUKS\xba\xbe"), "", ""},
		{qcow2(3, backing), "", "Otherwise an image could have the driver show the host's files to a guest."},
		{qcow2(3, features(4)), "", "The same."},
		{qcow2(3, features(2)), "", ""},
		{qcow2(3, features(1<<40)), "", "It is of a newer QEMU."},
		{qcow2(3, qcow2Head(func(h *qcow2Header) { h.CryptMethod = 2 })), "", ""},
		{qcow2(3, qcow2Head(func(h *qcow2Header) { h.Size = 0 })), "", ""},
		{qcow2(3, qcow2Head(func(h *qcow2Header) { h.ClusterBits = 60 })), "", ""},
		{qcow2(3, nil)[:20], "", ""},
		{at(0, "# Disk DescriptorFile\n"), "vmdk", ""},
		{at(0, "COWD"), "", ""},
		{vmdk(descriptorWith("SPARSE \"disk.vmdk\"", "FLAT \"/etc/passwd\" 0"), nil), "", ""},
		{vmdk(descriptorWith("monolithicSparse", "twoGbMaxExtentSparse"), nil), "", ""},
		{vdi(func(h *vdiHeader) { h.Type = 4 }), "", ""},
		{vpc(nil, footer(vpcDifferencing)), "", ""},
	} {
		_, err := Inspect(context.Background(), open(t, test.content), test.format)
		if err == nil {
			t.Fatalf("this is taken: %.40q", test.content)
		}
		all = append(all, doctest.Message{Said: err.Error(), Why: test.why})
	}
	file := open(t, nil)
	all = append(all,
		doctest.Message{Said: errTooSmall("the block device /dev/vg/data", vm.GiB, vm.Image{Path: "/var/lib/virt/images/a.img", Size: 3 * vm.GiB}).Error()},
		doctest.Message{Said: strings.ReplaceAll(errWritten(file).Error(), file.Name(), "/var/lib/virt/images/a.img"),
			Why: "Copy an image under another name, and rename it when it is whole."},
	)
	doctest.Page(t, "../docs/messages.md", *update, doctest.Section{Name: "messages of images", Text: doctest.Messages(all)})
}
