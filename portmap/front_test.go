package portmap

import (
	"strings"
	"testing"
)

func TestAcceptIsNeededWhereFORWARDMayRefuse(t *testing.T) {
	const ours = `-A FORWARD -m comment --comment "` + comment + `" -j ACCEPT` + "\n"
	for rules, want := range map[string]bool{
		"-P FORWARD ACCEPT\n":                              false,
		"-P FORWARD ACCEPT\n" + ours:                       false,
		"-P FORWARD DROP\n":                                true,
		"-P FORWARD ACCEPT\n-A FORWARD -j LIBVIRT_FWX\n":   true,
		"-P FORWARD ACCEPT\n" + ours + "-A FORWARD -j X\n": true,
	} {
		if got := mayRefuse(rules); got != want {
			t.Errorf("may refuse is %t, want %t, of\n%s", got, want, rules)
		}
	}
}

func TestAcceptIsKeptAtTheHeadOfLibvirtsChain(t *testing.T) {
	const (
		theirs = "\t\tcounter packets 0 bytes 0 jump guest_cross # handle 6\n\t\tcounter jump guest_input # handle 4\n"
		ours   = "\t\tct mark & 0x00000080 != 0x00000000 ct status dnat counter accept comment \"" + comment + "\" # handle 9\n"
		insert = "insert rule ip libvirt_network forward ct mark & 0x80 != 0 ct status dnat counter accept comment \"" + comment + "\"\n"
		remove = "delete rule ip libvirt_network forward handle 9\n"
	)
	for what, c := range map[string]struct {
		rules string
		on    bool
		want  string
	}{
		"it is missing":                        {theirs, true, insert},
		"it is there":                          {ours + theirs, true, ""},
		"it is behind theirs":                  {theirs + ours, true, remove + insert},
		"it is there twice":                    {ours + theirs + ours, true, remove + remove + insert},
		"it is to go":                          {ours + theirs, false, remove},
		"it has gone":                          {theirs, false, ""},
		"their rules are not there, and it is": {ours, true, ""},
	} {
		chain := "table ip libvirt_network { # handle 1\n\tchain forward { # handle 2\n" +
			"\t\ttype filter hook forward priority filter; policy accept;\n" + c.rules + "\t}\n}\n"
		if got := (nftablesFront{"ip"}).changes(chain, c.on); got != c.want {
			t.Errorf("%s: nft is told\n%s\nwant\n%s", what, got, c.want)
		}
	}
	// libvirt reads its table, and looks for what leads to its chains.
	if strings.Contains(insert, "jump") || strings.Contains(insert, "chain ") {
		t.Errorf("libvirt would take %q for one of its own", insert)
	}
}
