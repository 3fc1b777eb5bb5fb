package doctor

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nomad-driver-virt/hypervisor"
)

// noNetworks has libvirt without the daemon that has its networks.
func noNetworks(f *Facts) { f.Libvirt.Networks, f.Libvirt.NoNetworks = nil, errNot }

// The rest of libvirt is not called broken for that.
func TestNetworksThatAreNotToldAreOneComplaint(t *testing.T) {
	s, f := healthy()
	noNetworks(f)
	for _, finding := range Examine(*s, *f) {
		if (finding.Status != OK) != (finding.Subject == "networks") {
			t.Errorf("without its networks, of libvirt is said %+v, want a complaint of networks alone", finding)
		}
	}
}

func TestHostsWithoutLibvirtOrPartsOfIt(t *testing.T) {
	redHat := func(f *Facts) { f.System.RedHat, f.System.Modular = true, true }
	noLibvirt := func(f *Facts) { f.Libvirt, f.System.NoLibvirt = Libvirt{Err: errNot}, true }
	noQEMU := func(f *Facts) {
		f.Libvirt.NoQEMU, f.Libvirt.Runs.Emulator = errNot, ""
		f.Libvirt.QEMU, f.Libvirt.Facts = 0, hypervisor.Facts{}
	}
	stopped := func(f *Facts) { f.Libvirt.Networks[0].Active, f.Libvirt.Networks[0].Autostart = false, false }
	findComplaints(t, []brokenHost{
		{"no libvirt", func(_ *Settings, f *Facts) { noLibvirt(f) }, Problem, "libvirt", "not installed", "apt install libvirt-daemon-system qemu-system-x86"},
		{"no libvirt on ARM", func(_ *Settings, f *Facts) { noLibvirt(f); f.CPU = CPU{} }, Problem, "libvirt", "not installed", "apt install libvirt-daemon-system qemu-system-arm"},
		{
			"no libvirt on Red Hat's", func(_ *Settings, f *Facts) { noLibvirt(f); redHat(f) }, Problem, "libvirt", "not installed",
			"dnf install libvirt-daemon-kvm libvirt-daemon-config-network libvirt-client && systemctl enable --now virt{qemud,networkd,",
		},
		{
			"libvirt's part for QEMU is a package of its own", func(_ *Settings, f *Facts) {
				f.Libvirt = Libvirt{Err: errors.New("libvirt refuses to open qemu:///system: no connection driver available for qemu:///system")}
			},
			Problem, "libvirt", "its part for QEMU is not installed: libvirt refuses", "apt install libvirt-daemon-system qemu-system-x86 && systemctl restart libvirtd",
		},
		{
			"a libvirt that refuses, of which the host has no files", func(_ *Settings, f *Facts) {
				noLibvirt(f)
				f.Libvirt.Err = errors.New("libvirt refuses to open it")
			},
			Problem, "libvirt", "refuses", "correct uri, user and password",
		},
		{"no QEMU", func(_ *Settings, f *Facts) { noQEMU(f) }, Problem, "QEMU", "libvirt makes no VMs: it is not there", "apt install qemu-system-x86"},
		{"no QEMU on Red Hat's", func(_ *Settings, f *Facts) { noQEMU(f); redHat(f) }, Problem, "QEMU", "it is not there", "dnf install qemu-kvm"},
		{"no QEMU, and a network that is stopped", func(_ *Settings, f *Facts) { noQEMU(f); f.Libvirt.Networks[0].Active = false }, Warning, "network default", "does not run", "net-start"},
		{"no QEMU nor KVM", func(_ *Settings, f *Facts) { noQEMU(f); f.CPU.Device = errNot }, Warning, "KVM", "/dev/kvm cannot be used", "modprobe"},
		{"a QEMU that does not run", func(_ *Settings, f *Facts) { f.Libvirt.NoQEMU = errNot }, Problem, "QEMU", "it is not there", "/usr/bin/qemu -version"},
		{
			"no firmware on ARM", func(_ *Settings, f *Facts) {
				f.CPU, f.Libvirt.NoQEMU = CPU{}, fmt.Errorf("%w: no", hypervisor.ErrRefused)
			},
			Problem, "QEMU", "makes no VMs", "apt install qemu-efi-aarch64",
		},
		{"the network is stopped", func(_ *Settings, f *Facts) { stopped(f) }, Warning, "networks", "no network of libvirt's runs", "virsh net-start default && virsh net-autostart default"},
		{
			"no network at all", func(_ *Settings, f *Facts) { f.Libvirt.Networks, f.System.DefaultNetwork = nil, true }, Warning, "networks", "no network of libvirt's runs",
			"virsh net-define /usr/share/libvirt/networks/default.xml && virsh net-start default && virsh net-autostart default",
		},
		{
			"another network, which is stopped", func(_ *Settings, f *Facts) {
				stopped(f)
				f.Libvirt.Networks[0].Name, f.System.DefaultNetwork = "other", true
			},
			Warning, "networks", "no network of libvirt's runs", "virsh net-define",
		},
		{
			"the daemon of networks is away", func(_ *Settings, f *Facts) { noNetworks(f); redHat(f) }, Problem, "networks",
			"libvirt tells nothing of its networks: it is not there", "systemctl enable --now virtnetworkd.socket",
		},
		{"networks that libvirtd does not tell of", func(_ *Settings, f *Facts) { noNetworks(f) }, Problem, "networks", "it is not there", "systemctl restart libvirtd"},
		{
			"no network on Red Hat's", func(_ *Settings, f *Facts) { f.Libvirt.Networks = nil; redHat(f) }, Warning, "networks", "no network of libvirt's runs",
			"dnf install libvirt-daemon-config-network,",
		},
	})
}

// What libvirt knows without QEMU is told, and what it does not know is not.
func TestWhatIsToldWithoutQEMU(t *testing.T) {
	s, f := healthy()
	f.Libvirt.NoQEMU, f.Libvirt.Facts, f.Libvirt.Runs.Emulator, f.NineP = errNot, hypervisor.Facts{}, "", errNot
	told := make(map[string]Status)
	for _, finding := range Examine(*s, *f) {
		told[finding.Subject] = finding.Status
		if strings.Contains(finding.Found, "emulated") {
			t.Errorf("QEMU is missing and /dev/kvm is there: %+v, want no word of emulation", finding)
		}
	}
	for subject, want := range map[string]Status{"libvirt": OK, "QEMU": Problem, "QEMU's user": OK, "network default": OK, "pool local": OK, "directories in guests": ""} {
		if told[subject] != want {
			t.Errorf("%s is %q, want %q", subject, told[subject], want)
		}
	}
}
