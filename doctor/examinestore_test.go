package doctor

import (
	"fmt"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

func TestWhoMendsTheMemoryIsNotWarnedAgain(t *testing.T) {
	for _, test := range []struct {
		name          string
		memory, agent vm.Bytes // of the host, and what the agent takes it for
		accel         vm.Accel
	}{
		{"KVM", 64 * vm.GiB, 0, vm.KVM},
		{"emulated", 64 * vm.GiB, 0, vm.TCG},
		{"memory that is no whole MiB", 24_685_812 * vm.KiB, 0, vm.TCG},
		{"some of it is kept elsewhere", 64*vm.GiB + vm.KiB, 63 * vm.GiB, vm.KVM},
		{"the agent takes it for more", 64 * vm.GiB, 65*vm.GiB + vm.MiB, vm.KVM},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, f := healthy()
			f.Memory, f.Libvirt.Facts.Accel, s.Agent.Memory, s.Agent.Reserved = test.memory, test.accel, test.agent, 0
			warned := about("memory", *s, *f)
			var reserved vm.Bytes
			_, mend, _ := strings.Cut(warned.Mend, "reserved { ")
			if _, err := fmt.Sscanf(mend, "memory = %d }", &reserved); warned.Status != Warning || err != nil {
				t.Fatalf("want a warning that says how much to reserve, got %+v (%v)", warned, err)
			}
			s.Agent.Reserved = reserved * vm.MiB
			if again := about("memory", *s, *f); again.Status != OK {
				t.Errorf("with what mends it, %q, want it ok, got %+v", warned.Mend, again)
			}
			s.Agent.Reserved -= vm.MiB
			if less := about("memory", *s, *f); less.Status != Warning {
				t.Errorf("with 1 MiB less than what mends it, %q, want a warning, got %+v", warned.Mend, less)
			}
		})
	}
}

// about is the finding of a subject.
func about(subject string, s Settings, f Facts) Finding {
	for _, finding := range Examine(s, f) {
		if finding.Subject == subject {
			return finding
		}
	}
	return Finding{}
}
