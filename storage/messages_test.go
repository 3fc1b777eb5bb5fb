package storage

import (
	"errors"
	"flag"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nomad-driver-virt/doctest"
	"nomad-driver-virt/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMessagesOfVolumes(t *testing.T) {
	d := directory(t)
	d.write(t, "empty.img", nil)
	free := regexp.MustCompile(`needed, .* are free`)
	var all []doctest.Message
	add := func(err error, why string) {
		t.Helper()
		if err == nil {
			t.Fatalf("there is no error: %s", why)
		}
		said := strings.ReplaceAll(err.Error(), d.Path, "/var/lib/virt/storage")
		all = append(all, doctest.Message{Said: free.ReplaceAllString(said, "needed, 2.5GiB (2684354560 bytes) are free"), Why: why})
	}
	for _, m := range []struct{ name, why string }{
		{"golden.qcow2", "See [What a disk is made from](storage.md#what-a-disk-is-made-from)."},
		{"empty.img", "What follows the volume's path is as for image files."},
	} {
		_, err := d.Source(t.Context(), m.name, "")
		add(err, m.why)
	}
	add(New(map[string]Pool{"local": d}, nil, 0).RefusePrivate(filepath.Join(d.Path, "web-5a6e215e-vda.qcow2")),
		"`virsh vol-clone --pool local NAME NEW` makes a copy.")
	add(d.Create(t.Context(), vm.Volume{Pool: "local", Name: "disk", Path: filepath.Join(d.Path, "disk"), Format: "raw", Size: 1 << 60}), "")
	s := New(map[string]Pool{"local": d}, nil, 0)
	add(s.Remove(t.Context(), vm.Volume{Pool: "old", Name: "web-5a6e215e-vda.qcow2"}),
		"In the agent's log. A pool that leaves the configuration keeps what is in it.")
	_, err := (&Ceph{}).Source(t.Context(), "golden", "qcow2")
	add(err, "Leave `source.format` out.")
	add(errors.Join(ErrAway), "It is said of a directory's volumes.")
	doctest.Page(t, "../docs/messages.md", *update, doctest.Section{Name: "messages of volumes", Text: doctest.Messages(all)})
}
