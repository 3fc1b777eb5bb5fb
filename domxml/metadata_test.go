package domxml

import (
	"testing"
	"time"
)

func TestStopNoteIsReadAsItWasWritten(t *testing.T) {
	want := time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600))
	note, err := StopNote(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseStopNote(note); err != nil || !got.Equal(want) {
		t.Errorf("%s is read as %s, %v, want %s", note, got, err, want)
	}
	for _, bad := range []string{"", "<stop/>", `<stop by="soon"/>`, "<vm/>"} {
		if got, err := ParseStopNote(bad); err == nil {
			t.Errorf("%q is read as %s", bad, got)
		}
	}
}
