package hypervisor

import (
	"testing"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/go-cmp/cmp"
)

// record is what libvirt tells of the state of a domain.
func record(name string, s domainState) libvirt.DomainStatsRecord {
	return libvirt.DomainStatsRecord{Dom: libvirt.Domain{Name: name}, Params: []libvirt.TypedParam{
		{Field: libvirt.DomainStatsStateState, Value: *libvirt.NewTypedParamValueInt(int32(s.state))},
		{Field: libvirt.DomainStatsStateReason, Value: *libvirt.NewTypedParamValueInt(s.reason)},
		{Field: "state.later", Value: *libvirt.NewTypedParamValueString("of a libvirt to come")},
	}}
}

func TestWhoHasMissedAnEventIsFound(t *testing.T) {
	runs := domainState{libvirt.DomainRunning, int32(libvirt.DomainRunningBooted)}
	halted := domainState{libvirt.DomainPaused, int32(libvirt.DomainPausedIoerror)}
	paused := domainState{libvirt.DomainPaused, int32(libvirt.DomainPausedUser)}
	want := map[string]domainState{"runs": runs, "halted": halted}
	states := statesOf([]libvirt.DomainStatsRecord{record("runs", runs), record("halted", halted)})
	if diff := cmp.Diff(want, states, cmp.AllowUnexported(domainState{})); diff != "" {
		t.Errorf("the states (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		what string
		of   watch
		want bool
	}{
		{"nothing has happened", watch{"runs", &runs}, false},
		{"its disk was full", watch{"halted", &runs}, true},
		{"its disk was full when somebody had paused it", watch{"halted", &paused}, true},
		{"it goes on", watch{"runs", &halted}, true},
		{"it is gone", watch{"gone", &runs}, true},
		{"it could not be read", watch{"runs", nil}, true},
	} {
		if got := test.of.missed(states); got != test.want {
			t.Errorf("%s: an event was missed: %t, want %t", test.what, got, test.want)
		}
	}
}
