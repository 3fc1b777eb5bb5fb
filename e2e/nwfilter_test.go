//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// defineFilters has libvirt know the network filters that come with it, until the
// test ends.
func defineFilters(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob("/usr/share/libvirt/nwfilter/*.xml")
	if err != nil || len(files) == 0 {
		t.Fatalf("libvirt has come without network filters (%v)", err)
	}
	// One that refers to others wants them to be there.
	each := func(t *testing.T, command string) {
		t.Helper()
		for range files {
			before := virsh(t, "nwfilter-list")
			for _, file := range files {
				name := strings.TrimSuffix(filepath.Base(file), ".xml")
				argument := map[string]string{"nwfilter-define": file, "nwfilter-undefine": name}[command]
				_, _ = try("virsh", "-q", command, argument)
			}
			if virsh(t, "nwfilter-list") == before {
				return
			}
		}
	}
	each(t, "nwfilter-define")
	t.Cleanup(func() { each(t, "nwfilter-undefine") })
}

func TestFilterKeepsGuestsFromTheAddressesOfOthers(t *testing.T) {
	defineFilters(t)
	configure(t, `plugin "nomad-driver-virt" {`+"\n  config {", `nwfilter = "clean-traffic"`)
	j := guest{Name: "filtered", Cmds: serveShell}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	if out, err := try(lab, "far", "curl", "-sf", "--max-time", "5", "--data", "hostname", a.url(t, "http", "/cgi-bin/sh")); err != nil {
		t.Errorf("the port of a guest that is filtered does not answer: %v\n%s", err, out)
	}
	ping := func(from string) string {
		return s.run("ping -c 1 -W 2 -I " + from + " 192.168.122.1 >/dev/null 2>&1 && echo answered || echo silence")
	}
	own := s.run("ip -4 -o address show dev eth0 | awk '{ print $4 }' | cut -d/ -f1")
	if got := ping(own); got != "answered" {
		t.Errorf("from the guest's own address %s: %q, want an answer", own, got)
	}
	other := "192.168.122.251"
	if own == other {
		other = "192.168.122.252"
	}
	s.run("ip address add " + other + "/24 dev eth0")
	if got := ping(other); got != "silence" {
		t.Errorf("from an address that is not the guest's: %q, want silence", got)
	}
	j.purge()
	nothingLeft(t)
	if rules := matching(command(t, "nft", "list", "ruleset")+"\n", "vnet"); rules != "" {
		t.Errorf("the filter has left rules:\n%s", rules)
	}
}
