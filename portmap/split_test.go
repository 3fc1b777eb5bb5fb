package portmap

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestWhatAVMPublishesOfWhatItWants(t *testing.T) {
	port := func(label, host string, beside bool) vm.Port {
		return vm.Port{Label: label, Host: netip.MustParseAddrPort(host), Guest: 80, Beside: beside}
	}
	of := func(name string, ports ...vm.Port) published {
		own := published{}
		for _, q := range ports {
			guest := netip.MustParseAddr("192.168.122.50")
			if q.Host.Addr().Is6() {
				guest = netip.MustParseAddr("fd42::50")
			}
			if err := own.add(vm.Publication{VM: name, Bridge: "virbr0", Guest: guest, Ports: []vm.Port{q}}); err != nil {
				t.Fatal(err)
			}
		}
		return own
	}
	http, beside := port("http", "10.99.0.2:8080", false), port("http", "[fd99::2]:8080", true)
	other, besideOther := port("admin", "10.98.0.2:8080", false), port("admin", "[fd98::2]:8080", true)
	chosen6 := port("http", "[fd99::2]:8080", false)
	half := of("b", beside)
	delete(half, both(beside.Host)[1])

	for what, c := range map[string]struct {
		there, own published
		taken      string
		free       published
		held       []Held
	}{
		"all":                               {nil, of("a", http, beside), "", of("a", http, beside), nil},
		"its own again":                     {of("a", http, beside), of("a", http, beside), "", of("a", http, beside), nil},
		"beside is taken":                   {nil, of("a", http, beside), "[fd99::2]:8080", of("a", http), nil},
		"its own beside is taken":           {of("a", http, beside), of("a", http, beside), "[fd99::2]:8080", of("a", http), nil},
		"what is chosen is not asked about": {nil, of("a", chosen6), "[fd99::2]:8080", of("a", chosen6), nil},
		"beside is another's beside":        {of("b", beside), of("a", http, beside), "", of("a", http), nil},
		"beside is another's by half":       {half, of("a", http, beside), "", of("a", http), nil},
		"beside is another's choice":        {of("b", chosen6), of("a", http, beside), "", of("a", http), nil},
		"chosen is another's beside":        {of("b", beside), of("a", chosen6), "", of("a", chosen6), nil},
		"chosen is another's":               {of("b", http), of("a", http, beside), "", of("a"), []Held{{"http", "b"}}},
		"one label of two is another's": {of("b", http), of("a", http, beside, other, besideOther), "",
			of("a", other, besideOther), []Held{{"http", "b"}}},
	} {
		isTaken := func(host netip.AddrPort) bool { return host.String() == c.taken }
		free, held := c.there.split("a", c.own, func(string) bool { return true }, isTaken)
		if diff := cmp.Diff(c.free, free, compare); diff != "" {
			t.Errorf("%s: published (-want +got):\n%s", what, diff)
		}
		if diff := cmp.Diff(c.held, held); diff != "" {
			t.Errorf("%s: held (-want +got):\n%s", what, diff)
		}
	}
}

func TestPortBesideIsOfALabelThatTheCommentCutsShort(t *testing.T) {
	chosen := target{VM: "a", Label: "label-of-length", Bridge: "virbr0"}
	beside := target{VM: "a", Label: "label-of-le", Bridge: "virbr0", Beside: true}
	at4, at6 := port{netip.MustParseAddrPort("10.99.0.2:80"), "tcp"}, port{netip.MustParseAddrPort("[fd99::2]:80"), "tcp"}
	if !(published{at6: beside}).isBesideOneOf(published{at4: chosen}, at6) {
		t.Error("a port is not told to be beside the one of its label")
	}
}

func TestAddressIsOneVMs(t *testing.T) {
	all := mustPublish(t, dbPort()) // at 10.7.0.9 on br.lan
	const want = `the guest's address 10.7.0.9 on bridge "br.lan" is where 10.99.0.2:5432 leads, which is published ` +
		`for VM "db-00000001" (label "sql"): give each VM an address of its own, or stop that VM first`
	for what, c := range map[string]struct {
		name   string
		change func(p *vm.Publication)
		want   string
	}{
		"another VM":                      {"late", func(*vm.Publication) {}, want},
		"another VM, in IPv6 notation":    {"late", func(p *vm.Publication) { p.Guest = netip.MustParseAddr("::ffff:10.7.0.9") }, want},
		"the VM itself":                   {"db-00000001", func(*vm.Publication) {}, ""},
		"at another address":              {"late", func(p *vm.Publication) { p.Guest = netip.MustParseAddr("10.7.0.10") }, ""},
		"on another bridge":               {"late", func(p *vm.Publication) { p.Bridge = "br.wan" }, ""},
		"without ports":                   {"late", func(p *vm.Publication) { p.Ports = nil }, ""},
		"found there":                     {"late", func(p *vm.Publication) { p.Found = true }, ""},
		"it is not known where":           {"late", func(p *vm.Publication) { p.AsItIs = true }, ""},
		"which is there since long, both": {"twin", func(*vm.Publication) {}, ""},
	} {
		p := dbPort()
		p.VM = c.name
		c.change(&p)
		twin := dbPort()
		twin.VM, twin.Ports[0].Host = "twin", netip.MustParseAddrPort("10.99.0.2:5433")
		there := all
		if c.name == "twin" {
			there = all.with(nil, mustPublish(t, twin))
		}
		got := ""
		if err := there.crowded(c.name, placesGiven([]vm.Publication{p})); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: error is\n  %s\nwant\n  %s", what, got, c.want)
		}
	}
}
