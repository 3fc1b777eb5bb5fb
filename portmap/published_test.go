package portmap

import (
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/vm"
)

var compare = cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})

// webPorts is a publication of two ports, one of them on loopback.
func webPorts() vm.Publication {
	return vm.Publication{
		VM:     "web-5a6e215e",
		Bridge: "virbr0",
		Guest:  netip.MustParseAddr("192.168.122.50"),
		Ports: []vm.Port{
			{Label: "http", Host: netip.MustParseAddrPort("10.99.0.2:8080"), Guest: 80},
			{Label: "admin", Host: netip.MustParseAddrPort("127.0.0.1:9000"), Guest: 9000},
		},
	}
}

// dbPort is a publication of one port on another bridge.
func dbPort() vm.Publication {
	return vm.Publication{
		VM:     "db-00000001",
		Bridge: "br.lan",
		Guest:  netip.MustParseAddr("10.7.0.9"),
		Ports:  []vm.Port{{Label: "sql", Host: netip.MustParseAddrPort("10.99.0.2:5432"), Guest: 5432}},
	}
}

func mustPublish(t *testing.T, p vm.Publication) published {
	t.Helper()
	own, err := publishedBy(p)
	if err != nil {
		t.Fatalf("publication of %s is refused: %v", p.VM, err)
	}
	return own
}

func TestEachPortIsPublishedForBothProtocols(t *testing.T) {
	guest := netip.MustParseAddrPort("10.7.0.9:5432")
	want := published{
		{netip.MustParseAddrPort("10.99.0.2:5432"), "tcp"}: {VM: "db-00000001", Label: "sql", Bridge: "br.lan", Guest: guest},
		{netip.MustParseAddrPort("10.99.0.2:5432"), "udp"}: {VM: "db-00000001", Label: "sql", Bridge: "br.lan", Guest: guest},
	}
	if diff := cmp.Diff(want, mustPublish(t, dbPort()), compare); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
}

func TestPortBesideIsNotTheOneThatWasChosen(t *testing.T) {
	host := netip.MustParseAddrPort("10.99.0.2:5432")
	beside := vm.Port{Label: "too", Host: host, Guest: 1, Beside: true}
	for _, ports := range [][]vm.Port{{beside, dbPort().Ports[0]}, {dbPort().Ports[0], beside}} {
		p := dbPort()
		p.Ports = ports
		if diff := cmp.Diff(mustPublish(t, dbPort()), mustPublish(t, p), compare); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	}
}

func TestMappedAddressesAreIPv4(t *testing.T) {
	p := dbPort()
	p.Guest = netip.MustParseAddr("::ffff:10.7.0.9")
	p.Ports[0].Host = netip.MustParseAddrPort("[::ffff:10.99.0.2]:5432")
	if diff := cmp.Diff(mustPublish(t, dbPort()), mustPublish(t, p), compare); diff != "" {
		t.Errorf("IPv4 addresses in IPv6 notation are published otherwise (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBePublishedIsRefused(t *testing.T) {
	host := func(s string) func(*vm.Publication) {
		return func(p *vm.Publication) { p.Ports[0].Host = netip.MustParseAddrPort(s) }
	}
	guest := func(s string) func(*vm.Publication) {
		return func(p *vm.Publication) { p.Guest = netip.MustParseAddr(s) }
	}
	bridge := func(s string) func(*vm.Publication) {
		return func(p *vm.Publication) { p.Bridge = s }
	}
	name := func(s string) func(*vm.Publication) {
		return func(p *vm.Publication) { p.VM = s }
	}
	for _, c := range []struct {
		what   string
		change func(*vm.Publication)
		want   string
	}{
		{"host port 0", host("10.99.0.2:0"), `port "http": the port of the host is 0`},
		{"guest port 0", func(p *vm.Publication) { p.Ports[0].Guest = 0 }, `port "http": the port of the guest is 0`},
		{"no host address", func(p *vm.Publication) { p.Ports[0].Host = netip.AddrPort{} }, "unicast"},
		{"any host address", host("0.0.0.0:80"), "unicast"},
		{"multicast", host("224.0.0.1:80"), "unicast"},
		{"broadcast", host("255.255.255.255:80"), "unicast"},
		{"IPv6 host", host("[2001:db8::1]:80"), `host address 2001:db8::1 cannot lead to 192.168.122.50`},
		{"IPv6 guest", guest("2001:db8::2"), `host address 10.99.0.2 cannot lead to 2001:db8::2`},
		{"loopback of IPv6", host("[::1]:80"), "no way leads from ::1"},
		{"address of a link", host("[fe80::1]:80"), "use a global address"},
		{"address of a link, with the link", host("[fe80::1%eth0]:80"), "use a global address"},
		{"no guest address", func(p *vm.Publication) { p.Guest = netip.Addr{} }, "guest address"},
		{"loopback guest", guest("127.0.0.1"), "guest address"},
		{"the same port twice", host("127.0.0.1:9000"), `127.0.0.1:9000 is given to two ports (labels "http" and "admin")`},
		{"no bridge", bridge(""), `bridge ""`},
		{"bridge with a wildcard", bridge("virbr*"), `bridge "virbr*"`},
		{"bridge that is a path", bridge("../lo"), `bridge "../lo"`},
		{"bridge that is a dot", bridge("."), `bridge "."`},
		{"bridge of 16 bytes", bridge("virbr01234567890"), "1 to 15"},
		{"no VM", name(""), "1 to 72"},
		{"VM with a quote", name(`a"b`), "1 to 72"},
		{"VM of two words", name("a b"), "1 to 72"},
	} {
		p := webPorts()
		c.change(&p)
		if _, err := publishedBy(p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", c.what, err, c.want)
		}
	}
}

func TestWhatIsNotKnownIsLeftAsItIs(t *testing.T) {
	p := webPorts()
	there := mustPublish(t, p)
	other := mustPublish(t, dbPort())
	p.Guest, p.AsItIs = netip.Addr{}, true
	own := mustPublish(t, p)
	maps.Copy(own, other)
	for what, c := range map[string]struct{ there, want published }{
		"what is published":             {there, there.with(nil, other)},
		"what is not published":         {nil, other},
		"what another VM has published": {mustPublish(t, vm.Publication{VM: "b", Bridge: p.Bridge, Guest: webPorts().Guest, Ports: p.Ports}), other},
	} {
		if diff := cmp.Diff(c.want, c.there.asItIs("web-5a6e215e", own), compare); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestConflictNamesTheHolderAndBothLabels(t *testing.T) {
	all := mustPublish(t, webPorts())
	own := mustPublish(t, vm.Publication{
		VM: "late-00000002", Bridge: "virbr0", Guest: netip.MustParseAddr("192.168.122.51"),
		Ports: []vm.Port{{Label: "www", Host: netip.MustParseAddrPort("10.99.0.2:8080"), Guest: 80}},
	})
	want := `10.99.0.2:8080 (label "www") is published for VM "web-5a6e215e" (label "http"): ` +
		`use another port, or stop that VM first`
	if err := all.conflict("late-00000002", own); err == nil || err.Error() != want {
		t.Errorf("error is\n  %v\nwant\n  %s", err, want)
	}
	if err := all.conflict("web-5a6e215e", all); err != nil {
		t.Errorf("a VM is in conflict with itself: %v", err)
	}
}

func TestCommentTellsVMLabelAndBridge(t *testing.T) {
	longName := strings.Repeat("n", 72)
	longBridge := strings.Repeat("b", 15)
	for _, c := range []struct {
		of          target
		label, want string
	}{
		{target{VM: "web-5a6e215e", Bridge: "virbr0"}, "http", "web-5a6e215e http on virbr0"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0", Beside: true}, "http", "web-5a6e215e http too on virbr0"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0", Isolated: true}, "http", "web-5a6e215e http on virbr0 alone"},
		{target{VM: "web-5a6e215e", Bridge: "alone", Beside: true, Isolated: true}, "alone", "web-5a6e215e alone too on alone alone"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0"}, "", "web-5a6e215e  on virbr0"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0"}, "on on", "web-5a6e215e on_on on virbr0"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0"}, "a too", "web-5a6e215e a_too on virbr0"},
		{target{VM: "web-5a6e215e", Bridge: "virbr0"}, "a\"\\\nä", "web-5a6e215e a____ on virbr0"},
		{target{VM: longName, Bridge: longBridge}, strings.Repeat("l", 60), longName + " " + strings.Repeat("l", 35) + " on " + longBridge},
		{target{VM: longName, Bridge: longBridge, Beside: true}, strings.Repeat("l", 60),
			longName + " " + strings.Repeat("l", 31) + " too on " + longBridge},
	} {
		c.of.Label = c.of.shortLabel(c.label)
		got := c.of.comment()
		if got != c.want || len(got) > maxComment {
			t.Errorf("comment of label %q is %q, want %q", c.label, got, c.want)
		}
		if back, ok := parseComment(got); !ok || back != c.of {
			t.Errorf("comment %q is read back as %v, %v; want %v", got, back, ok, c.of)
		}
	}
	for _, s := range []string{"", "web", "web http", "web-on-virbr0"} {
		if _, ok := parseComment(s); ok {
			t.Errorf("comment %q is not ours, but is taken for one", s)
		}
	}
}

func TestMapOfTheKernelIsReadBack(t *testing.T) {
	const text = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"map": {"name": "ports", "elem": [
		[{"elem": {"val": {"concat": ["10.99.0.2", "tcp", 5432]}, "comment": "db-00000001 sql on br.lan"}}, {"concat": ["10.7.0.9", 5432]}],
		[{"elem": {"val": {"concat": ["10.99.0.2", "udp", 5432]}, "comment": "db-00000001 sql on br.lan"}}, {"concat": ["10.7.0.9", 5432]}],
		[{"elem": {"val": {"concat": ["10.99.0.2", "tcp", 1]}, "comment": "of somebody else"}}, {"concat": ["10.7.0.9", 1]}],
		[{"concat": ["10.99.0.2", "tcp", 2]}, {"concat": ["10.7.0.9", 2]}]]}}]}`
	got, err := parseMaps([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(mustPublish(t, dbPort()), got, compare); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	const six = `{"nftables": [{"map": {"name": "ports6", "elem": [
		[{"elem": {"val": {"concat": ["fd99::2", "udp", 80]}, "comment": "web http too on virbr0"}}, {"concat": ["fd42::5", 8080]}]]}}]}`
	got, err = parseMaps([]byte(six))
	if err != nil {
		t.Fatal(err)
	}
	want := published{{netip.MustParseAddrPort("[fd99::2]:80"), "udp"}: {
		VM: "web", Label: "http", Bridge: "virbr0", Guest: netip.MustParseAddrPort("[fd42::5]:8080"), Beside: true,
	}}
	if diff := cmp.Diff(want, got, compare); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	const empty = `{"nftables": [{"metainfo": {}}, {"map": {"name": "ports"}}]}`
	if got, err := parseMaps([]byte(empty)); err != nil || len(got) != 0 {
		t.Errorf("an empty map is read back as %v, %v", got, err)
	}
	if _, err := parseMaps([]byte("nonsense")); err == nil {
		t.Error("nonsense is read without an error")
	}
}

func TestHostWithoutPrograms(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if err := New().Withdraw(t.Context(), "web"); err != nil {
		t.Errorf("nothing can be published, yet withdrawing it fails: %v", err)
	}
	err := publish(t, New(), webPorts())
	if err == nil || !strings.Contains(err.Error(), `"nft"`) {
		t.Errorf("error is %v, want one that names the missing program", err)
	}
}

// publish publishes what nobody else may hold.
func publish(t testing.TB, table *Table, p vm.Publication) error {
	t.Helper()
	_, err := table.Publish(t.Context(), p.VM, []vm.Publication{p}, nobody)
	return err
}
