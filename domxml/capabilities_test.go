package domxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCapabilities(t *testing.T) {
	const host = "<capabilities><host><cpu><arch>i686</arch></cpu></host>"
	for _, test := range []struct {
		name, document string
		want           Capabilities
	}{
		{"libvirt 9.0 on a PC with QEMU for ARM", read(t, "capabilities.xml"), Capabilities{
			Arch:     "x86_64",
			QEMUUser: "0",
			Guests: []Guest{
				{
					Arch:     "aarch64",
					Machines: []string{"integratorcp", "virt-7.1", "virt-7.2", "virt", "raspi3b"},
					Usual:    []string{"virt"},
				},
				{
					Arch:     "x86_64",
					Machines: []string{"pc-i440fx-7.2", "pc", "pc-q35-7.2", "q35"},
					Usual:    []string{"pc", "q35"},
				},
			},
		}},
		{"libvirt's test driver", host + "</capabilities>", Capabilities{Arch: "i686"}},
		{
			"Debian's own qemu.conf",
			strings.TrimSuffix(host, "</host>") + "<secmodel><model>none</model></secmodel><secmodel><model>dac</model>" +
				"<baselabel type='kvm'>+64055:+64055</baselabel><baselabel type='qemu'>+64055:+64055</baselabel></secmodel></host></capabilities>",
			Capabilities{Arch: "i686", QEMUUser: "64055"},
		},
		{
			"guests that are not virtualized in full",
			host + "<guest><os_type>xen</os_type><arch name='x86_64'/></guest></capabilities>",
			Capabilities{Arch: "i686"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseCapabilities(test.document)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v, and the capabilities (-want +got):\n%s", err, diff)
			}
		})
	}
	for _, document := range []string{"capabilities", "<capabilities><host/></capabilities>"} {
		if got, err := ParseCapabilities(document); err == nil {
			t.Errorf("%q, which tells no architecture, was read as %+v", document, got)
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
		{"QEMU for ARM with UEFI", read(t, "domcapabilities-aarch64.xml"), Offer{
			VirtioFS: true, UEFI: true, Buses: []string{"fdc", "scsi", "virtio", "usb", "sata"},
		}},
		{"QEMU for ARM without", strings.Replace(read(t, "domcapabilities-aarch64.xml"), "<value>efi</value>", "", 1), Offer{
			VirtioFS: true, Buses: []string{"fdc", "scsi", "virtio", "usb", "sata"},
		}},
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
