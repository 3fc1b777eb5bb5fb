package hypervisortest

import (
	"os"
	"testing"

	"nomad-driver-virt/vm"
)

func TestMemoryIsAHypervisor(t *testing.T) {
	m := NewMemory()
	TestHypervisor(t, Subject{
		Hypervisor: m,
		Accel:      vm.TCG,
		Arch:       "x86_64",
		Kill:       m.Kill,
		Edit:       m.Edit,
		PowerOff:   m.PowerOff,
		HasVolume: func(v vm.Volume) bool {
			_, err := os.Stat(v.Path)
			return err == nil
		},
		Forget:  func(string) error { return nil },
		Network: Network.Name,
	})
	if left := m.Left(); len(left) != 0 {
		t.Errorf("the test has left %q", left)
	}
}
