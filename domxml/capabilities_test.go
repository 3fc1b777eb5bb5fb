package domxml

import (
	"strings"
	"testing"
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

func TestParseVirtioFS(t *testing.T) {
	real := read(t, "domcapabilities.xml")
	for _, test := range []struct {
		name, document string
		want           bool
	}{
		{"QEMU 7.2 on libvirt 9.0", real, true},
		{"QEMU without virtiofs", strings.Replace(real, "<value>virtiofs</value>", "", 1), false},
		{"no file systems at all", strings.Replace(real, "<filesystem supported='yes'>", "<filesystem supported='no'>", 1), false},
		{"libvirt that does not tell", "<domainCapabilities><devices/></domainCapabilities>", false},
		{"libvirt's test driver", "<domainCapabilities/>", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := ParseVirtioFS(test.document); err != nil || got != test.want {
				t.Errorf("got %t, %v, want %t", got, err, test.want)
			}
		})
	}
	if got, err := ParseVirtioFS("domainCapabilities"); err == nil {
		t.Errorf("what is no XML was read as %t", got)
	}
}
