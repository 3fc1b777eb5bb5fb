package domxml

import (
	"maps"
	"net/netip"
	"testing"
	"time"
)

func TestAddressNoteIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []map[string]netip.Addr{
		{},
		{"52:54:00:12:34:56": netip.MustParseAddr("192.0.2.5"), "52:54:00:65:43:21": netip.MustParseAddr("2001:db8::5")},
	} {
		note, err := AddressNote(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseAddressNote(note); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s is read as %v, %v, want %v", note, got, err, want)
		}
	}
	for _, bad := range []string{"", `<addresses><address mac="52:54:00:12:34:56" ip="none"/></addresses>`, "<vm/>"} {
		if got, err := ParseAddressNote(bad); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}

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
