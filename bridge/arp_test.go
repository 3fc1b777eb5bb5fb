package bridge

import (
	"net/netip"
	"testing"
)

func TestSender(t *testing.T) {
	const (
		head   = "\x00\x01\x08\x00\x06\x04\x00\x01"
		mac    = "\x52\x54\x00\x12\x34\x56"
		addr   = "\xc0\x00\x02\x05"
		target = "\x00\x00\x00\x00\x00\x00\xc0\x00\x02\x01"
	)
	for _, test := range []struct {
		name, packet string
		want         string // "" for none
	}{
		{"a question", head + mac + addr + target, "192.0.2.5"},
		{"an answer, with the padding of Ethernet", "\x00\x01\x08\x00\x06\x04\x00\x02" + mac + addr + target + "\x00\x00\x00\x00", "192.0.2.5"},
		{"whether an address is free", head + mac + "\x00\x00\x00\x00" + target, ""},
		{"of something else than IPv4", "\x00\x01\x86\xdd\x06\x10\x00\x01" + mac + addr + target, ""},
		{"cut off", head + mac + addr, ""},
		{"nothing", "", ""},
	} {
		got, ok := sender([]byte(test.packet))
		if ok != (test.want != "") {
			t.Errorf("%s: sent by %v, %t, want %q", test.name, got, ok, test.want)
			continue
		}
		if want := (Neighbor{"52:54:00:12:34:56", netip.MustParseAddr("192.0.2.5")}); ok && got != want {
			t.Errorf("%s: sent by %v, want %v", test.name, got, want)
		}
	}
}
