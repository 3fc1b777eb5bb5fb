package portmap

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestTransactions(t *testing.T) {
	web, db, none := mustPublish(t, webPorts()), mustPublish(t, dbPort()), published{}
	moved := webPorts()
	moved.Ports = moved.Ports[:1]
	moved.Ports[0].Guest = 8080
	webMoved := mustPublish(t, moved)

	six := vm.Publication{
		VM: "web-5a6e215e", Bridge: "virbr0", Guest: netip.MustParseAddr("fd42::50"),
		Ports: []vm.Port{{Label: "http", Host: netip.MustParseAddrPort("[fd99::2]:8080"), Guest: 80, Beside: true}},
	}
	both := web.with(nil, mustPublish(t, six))
	alone := dbPort()
	alone.Isolated = true
	isolated := mustPublish(t, alone)

	for _, c := range []struct {
		golden             string
		remove, add, after published
	}{
		{"first", none, db, db},
		{"loopback", none, web, web},
		{"beside-another", none, web, db.with(none, web)},
		{"again", web, webMoved, db.with(none, webMoved)},
		{"withdraw", web, none, db},
		{"last", db, none, none},
		{"ipv6", db, both, both},
		{"isolated", none, isolated, isolated.with(nil, both)},
	} {
		t.Run(c.golden, func(t *testing.T) {
			golden(t, c.golden+".nft", transaction(c.remove, c.add, c.after))
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}
