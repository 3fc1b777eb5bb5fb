//go:build lab

package hypervisor

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

func TestFacts(t *testing.T) {
	h := connected(t, system)
	facts, err := h.Facts(t.Context(), "", "")
	must(t, err)
	if facts.Arch != "x86_64" || facts.Accel != vm.TCG || !facts.VirtioFS || facts.QEMUUser != "0" {
		t.Errorf("the host is %+v, want x86_64 with TCG and virtiofs, and QEMU to be root", facts)
	}
	for machine, ide := range map[string]bool{"pc": true, "q35": false} {
		of, err := h.Facts(t.Context(), "", machine)
		must(t, err)
		if slices.Contains(of.Buses, "ide") != ide || !slices.Contains(of.Buses, "virtio") {
			t.Errorf("disks of a %s can be on %q, want virtio among them, and ide: %t", machine, of.Buses, ide)
		}
	}
	at := slices.IndexFunc(facts.Networks, func(n domxml.Network) bool { return n.Name == "default" })
	if at < 0 || facts.Networks[at].Bridge != "virbr0" || len(facts.Networks[at].Ranges) != 1 {
		t.Errorf("the networks are %+v, want default on virbr0 with a DHCP range", facts.Networks)
	}
	_, err = h.Facts(t.Context(), "", "hyp-machine")
	mustSay(t, err, "hyp-machine")
	_, err = h.Facts(t.Context(), "hyp-arch", "")
	mustSay(t, err, "hyp-arch")
	_, err = h.Facts(t.Context(), "aarch64", "raspi3b")
	mustSay(t, err, "no UEFI firmware for aarch64 guests of machine type raspi3b")
}

// isBoard tells the machine types that are boards there are, of which a newer QEMU
// has versions, too.
func isBoard(machine string) bool { return strings.HasSuffix(machine, "-evb") }

func TestGuestsOfOtherArchitectures(t *testing.T) {
	h := connected(t, system)
	guests, err := h.Guests(t.Context())
	must(t, err)
	var got []string
	for _, g := range guests {
		usual := slices.DeleteFunc(slices.Clone(g.Usual), isBoard)
		got = append(got, fmt.Sprintf("%s %s %q", g.Arch, g.Accel, usual))
		if !slices.Contains(g.Machines, g.Usual[0]) {
			t.Errorf("the machine types of %s are %q, want %s among them", g.Arch, g.Machines, g.Usual[0])
		}
	}
	want := []string{`x86_64 qemu ["pc" "q35"]`, `aarch64 qemu ["virt"]`, `i686 qemu ["pc" "q35"]`}
	if !slices.Equal(got, want) {
		t.Errorf("guests can be %q, want %q", got, want)
	}
	facts, err := h.Facts(t.Context(), "aarch64", "")
	must(t, err)
	if facts.Arch != "aarch64" || facts.Native || facts.Machine != "virt" || facts.Accel != vm.TCG {
		t.Errorf("without a machine type a guest for ARM is %+v, want a virt by TCG", facts)
	}
}
