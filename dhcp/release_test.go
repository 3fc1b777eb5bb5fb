package dhcp

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"nomad-driver-virt/vm"
)

var lease = vm.Lease{
	MAC:    "52:54:00:12:34:56",
	Addr:   netip.MustParseAddr("192.168.122.77"),
	Server: netip.MustParseAddr("192.168.122.1"),
	Bridge: "virbr0",
}

// The bytes are those of RFC 2131, section 2, and RFC 2132.
func TestMessage(t *testing.T) {
	const (
		client  = "c0a87a4d"     // 192.168.122.77
		mac     = "525400123456" // padded to 16 bytes
		magic   = "63825363"
		release = "350107"
		server  = "3604" + "c0a87a01"
	)
	for _, test := range []struct {
		name string
		id   []byte
		want string // the options, in order of their numbers
	}{
		{"of a client that has said no name", nil, release + server + "ff"},
		{"of one whose name is its hardware address", []byte{1, 0x52, 0x54, 0, 0x12, 0x34, 0x56}, release + server + "3d07" + "01" + mac + "ff"},
		{"of one with a name of its own", []byte{0xff, 2, 3}, release + server + "3d03" + "ff0203" + "ff"},
	} {
		t.Run(test.name, func(t *testing.T) {
			of := lease
			of.ClientID = test.id
			packet, err := message(of)
			if err != nil {
				t.Fatal(err)
			}
			got := hex.EncodeToString(packet.ToBytes())
			fixed, options, found := strings.Cut(got, magic)
			if !found || strings.TrimRight(options, "0") != strings.TrimRight(test.want, "0") {
				t.Errorf("the options are %s, want %s", options, test.want)
			}
			const head, seconds = "01010600", "00000000" // from a client, by Ethernet
			want := seconds + client + strings.Repeat("00", 12) + mac
			if !strings.HasPrefix(fixed, head) || !strings.HasPrefix(fixed[16:], want) {
				t.Errorf("the message begins with %s, want %s, four bytes of any kind, and %s", fixed[:80], head, want)
			}
		})
	}
}

func TestLeaseOfNoHardwareAddressIsNotGivenBack(t *testing.T) {
	of := lease
	of.MAC = "none"
	err := Release(t.Context(), of)
	if err == nil || !strings.HasPrefix(err.Error(), "giving back 192.168.122.77, which is leased to none: ") {
		t.Errorf("the error is %v", err)
	}
}
