package hypervisor

import (
	"testing"

	"github.com/digitalocean/go-libvirt"
)

func TestOnlyAnErrorOfADiskHaltsAGuest(t *testing.T) {
	paused := func(reason libvirt.DomainPausedReason) domainState {
		return domainState{libvirt.DomainPaused, int32(reason)}
	}
	for name, test := range map[string]struct {
		state domainState
		want  Guest
	}{
		"it runs": {domainState{libvirt.DomainRunning, int32(libvirt.DomainRunningBooted)}, GuestRuns},
		// Of the same number as the reason for a pause.
		"it runs, recovered from a crash": {domainState{libvirt.DomainRunning, int32(libvirt.DomainPausedIoerror)}, GuestRuns},
		"paused by an error of a disk":    {paused(libvirt.DomainPausedIoerror), GuestHalted},
		"paused by somebody":              {paused(libvirt.DomainPausedUser), GuestOther},
		"not let run yet":                 {paused(libvirt.DomainPausedStartingUp), GuestOther},
		"paused by libvirt":               {paused(libvirt.DomainPausedSnapshot), GuestOther},
		"suspended by itself":             {domainState{libvirt.DomainPmsuspended, int32(libvirt.DomainPausedIoerror)}, GuestSleeps},
		"shutting down":                   {domainState{libvirt.DomainShutdown, 0}, GuestEnds},
	} {
		t.Run(name, func(t *testing.T) {
			if got := test.state.guest(); got != test.want {
				t.Errorf("%+v is taken for %d, want %d", test.state, got, test.want)
			}
		})
	}
}
