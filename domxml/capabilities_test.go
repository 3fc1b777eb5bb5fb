package domxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseHostArch(t *testing.T) {
	for _, test := range []struct{ name, document, want string }{
		{"libvirt 9.0 on a PC", read(t, "capabilities.xml"), "x86_64"},
		{"libvirt's test driver", "<capabilities><host><cpu><arch>i686</arch></cpu></host></capabilities>", "i686"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := ParseHostArch(test.document); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	for _, document := range []string{"capabilities", "<capabilities><host/></capabilities>"} {
		if got, err := ParseHostArch(document); err == nil {
			t.Errorf("%q, which tells no architecture, was read as %q", document, got)
		}
	}
}

func TestParseOffer(t *testing.T) {
	real := read(t, "domcapabilities.xml")
	buses := []string{"ide", "fdc", "scsi", "virtio", "usb", "sata"}
	for _, test := range []struct {
		name, document string
		want           Offer
	}{
		{"QEMU 7.2 on libvirt 9.0", real, Offer{VirtioFS: true, Buses: buses}},
		{"QEMU without virtiofs", strings.Replace(real, "<value>virtiofs</value>", "", 1), Offer{Buses: buses}},
		{"no file systems at all", strings.Replace(real, "<filesystem supported='yes'>", "<filesystem supported='no'>", 1), Offer{Buses: buses}},
		{"libvirt that does not tell", "<domainCapabilities><devices/></domainCapabilities>", Offer{}},
		{"libvirt's test driver", "<domainCapabilities/>", Offer{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseOffer(test.document)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v, and what is offered (-want +got):\n%s", err, diff)
			}
		})
	}
	if got, err := ParseOffer("domainCapabilities"); err == nil {
		t.Errorf("what is no XML was read as %v", got)
	}
}
