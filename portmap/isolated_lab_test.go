//go:build lab

package portmap

import (
	"fmt"
	"testing"
)

// alone takes the ways out from a guest for the time of a test, as a network of libvirt's
// that leads nowhere has none for its guests.
func alone(t *testing.T, guest string) {
	t.Helper()
	for _, way := range []string{"-4 route %s default via 192.168.122.1", "-6 route %s default via fd42::1"} {
		must(t, "ip -n "+guest+" "+fmt.Sprintf(way, "del"))
		t.Cleanup(func() { must(t, "ip -n "+guest+" "+fmt.Sprintf(way, "add")) })
	}
}

func TestGuestThatHasNoWayOutAnswersAll(t *testing.T) {
	alone(t, "one")
	table := newTable(t, "web")
	all := bothChosen("web", "one", "20000")
	all[0].Ports = append(all[0].Ports, publication("", "one", "127.0.0.1:20000").Ports...)
	mustDo(t, publishAll(t, table, all...))
	for _, at := range []string{"10.99.0.2:20000", "[fd99::2]:20000"} {
		mustBeSilent(t, "far", at)
		mustBeSilent(t, "", at)
	}
	for i := range all {
		all[i].Isolated = true
	}
	if restored := restore(t, table, all...); len(restored) != 1 {
		t.Errorf("%v were put right, want the VM: nobody had told that its bridge leads nowhere", restored)
	}
	for what, as := range map[string]*Table{"this process": table, "the next process": New()} {
		if restored := restore(t, as, all...); restored != nil {
			t.Errorf("%s: %v were put right, and nothing was wrong", what, restored)
		}
	}
	for _, from := range []string{"far", "", "two"} {
		mustAnswer(t, from, "10.99.0.2:20000", "one 192.168.122.1")
		mustAnswer(t, from, "[fd99::2]:20000", "one fd42::1")
	}
	mustAnswer(t, "", "127.0.0.1:20000", "one 192.168.122.1")
	mustRefuse(t, "far", "192.168.122.51:8000") // the guest itself
}
