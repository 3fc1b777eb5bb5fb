package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/vm"
)

// lan is a bridge in memory, and those who are on it.
type lan struct {
	mu     sync.Mutex              // guards the fields below
	owners map[netip.Addr]string   // who answers for an address
	known  []bridge.Neighbor       // to the host
	says   chan bridge.Neighbor    // what is heard
	agent  map[string][]netip.Addr // nil: there is none
}

func (l *lan) Neighbors(string) ([]bridge.Neighbor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.known), nil
}

func (l *lan) WhoHas(_ context.Context, _ string, addr netip.Addr) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !netip.MustParsePrefix("192.0.2.0/24").Contains(addr) {
		return "", bridge.ErrNotOnBridge
	}
	return l.owners[addr], nil
}

func (l *lan) Hear(ctx context.Context, _ string) <-chan bridge.Neighbor {
	heard := make(chan bridge.Neighbor)
	go func() {
		defer close(heard)
		for {
			select {
			case <-ctx.Done():
				return
			case n := <-l.says:
				heard <- n
			}
		}
	}()
	return heard
}

func (l *lan) addresses(context.Context, string) (map[string][]netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.agent == nil {
		return nil, errors.New("there is none")
	}
	return l.agent, nil
}

func (l *lan) change(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
}

const (
	ownMAC   = "52:54:00:12:34:56"
	otherMAC = "52:54:00:65:43:21"
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// searched is what came of a search.
type searched struct {
	mu    sync.Mutex
	lines []string
	fail  error // the answer to what was found
}

func (s *searched) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, fmt.Sprintf(format, args...))
}

// since returns what was told since it was asked last.
func (s *searched) since() (lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, s.lines = s.lines, nil
	return lines
}

// begin searches on a bridge until the test ends. fail is the answer to what is found.
func begin(t *testing.T, l *lan, known netip.Addr, fail error) *searched {
	t.Helper()
	came := searched{fail: fail}
	s := search{
		agent: l.addresses, lan: l, vm: "web",
		of: vm.Interface{Bridge: "br0", MAC: ownMAC, Ports: []vm.Port{{Label: "http"}, {Label: "ssh"}}},
		found: func(_ context.Context, addr netip.Addr) error {
			came.tell("published at %s", addr)
			came.mu.Lock()
			defer came.mu.Unlock()
			return came.fail
		},
		tell: came.tell,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx, known)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return &came
}

func mustTell(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s: what was told (-want +got):\n%s", what, diff)
	}
}

func foundBy(by string) []string {
	return []string{
		"published at 192.0.2.5",
		"The guest's address on bridge br0 is 192.0.2.5, as " + by + " says; its ports are published: http, ssh",
	}
}

func TestAddressIsFound(t *testing.T) {
	own := addrs("192.0.2.5")[0]
	for _, test := range []struct {
		name string
		lan  *lan
		says []bridge.Neighbor
		want []string
	}{
		{"by the agent", &lan{agent: map[string][]netip.Addr{ownMAC: addrs("::1", "fe80::1", "169.254.1.1", "192.0.2.5")}}, nil, foundBy("its agent")},
		{"by another interface of the agent's", &lan{agent: map[string][]netip.Addr{otherMAC: addrs("192.0.2.5")}}, nil, nil},
		{"of others, by the agent", &lan{agent: map[string][]netip.Addr{ownMAC: addrs("192.0.2.9", "198.51.100.1", "192.0.2.5")}}, nil, foundBy("its agent")},
		{"as it is heard", &lan{}, []bridge.Neighbor{{MAC: otherMAC, Addr: own}, {MAC: ownMAC, Addr: addrs("192.0.2.9")[0]}, {MAC: ownMAC, Addr: own}}, foundBy("ARP")},
		{"of whom the host has spoken to", &lan{known: []bridge.Neighbor{{MAC: otherMAC, Addr: addrs("192.0.2.9")[0]}, {MAC: ownMAC, Addr: own}}}, nil, foundBy("ARP")},
		{"nowhere", &lan{}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.lan.owners = map[netip.Addr]string{own: ownMAC, addrs("192.0.2.9")[0]: otherMAC}
				test.lan.says = make(chan bridge.Neighbor, len(test.says))
				for _, n := range test.says {
					test.lan.says <- n
				}
				came := begin(t, test.lan, netip.Addr{}, nil)
				time.Sleep(2 * searchEvery)
				mustTell(t, test.name, came.since(), test.want...)
			})
		})
	}
}

func TestAddressThatIsNotFoundIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{
			owners: map[netip.Addr]string{addrs("192.0.2.9")[0]: otherMAC},
			known:  []bridge.Neighbor{{MAC: ownMAC, Addr: addrs("192.0.2.9")[0]}},
		}
		came := begin(t, l, netip.Addr{}, nil)
		time.Sleep(searchPatience - time.Second)
		mustTell(t, "before its time is over", came.since())
		time.Sleep(time.Minute)
		mustTell(t, "afterwards", came.since(), "The guest's address on bridge br0 is not known after 5m0s, "+
			"and its ports are not published (http, ssh): its agent tells nothing (there is none); "+
			"ARP tells of 192.0.2.9, but that is the address of "+otherMAC+". It is looked for on and on; "+
			"is there somebody on that bridge who gives the guest an address?")
		time.Sleep(time.Hour)
		mustTell(t, "an hour later", came.since())
		l.change(func() {
			l.owners[addrs("192.0.2.5")[0]] = ownMAC
			l.agent = map[string][]netip.Addr{ownMAC: addrs("192.0.2.5")}
		})
		time.Sleep(2 * confirmEvery)
		mustTell(t, "when it has one", came.since(), foundBy("its agent")...)
	})
}

func TestAddressIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := addrs("192.0.2.4")[0], addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr]string{first: ownMAC, second: ownMAC}}
		came := begin(t, l, first, nil)
		l.change(func() { l.agent = map[string][]netip.Addr{ownMAC: {second, first}} })
		time.Sleep(time.Hour)
		mustTell(t, "as long as it answers at the first", came.since())
		l.change(func() { delete(l.owners, first) })
		time.Sleep(2 * confirmEvery)
		mustTell(t, "when it answers at the second alone", came.since(), foundBy("its agent")...)
		l.change(func() { delete(l.owners, second) })
		time.Sleep(time.Hour)
		mustTell(t, "while it does not answer", came.since())
	})
}

func TestPortsThatCannotBePublishedAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr]string{own: ownMAC}, agent: map[string][]netip.Addr{ownMAC: {own}}}
		came := begin(t, l, netip.Addr{}, errors.New("port 80 is VM b's"))
		time.Sleep(3*searchEvery + time.Second)
		told := came.since()
		events := slices.DeleteFunc(slices.Clone(told), func(line string) bool { return strings.HasPrefix(line, "published") })
		mustTell(t, "while it fails", events,
			"The guest has address 192.0.2.5 on bridge br0, but its ports cannot be published: port 80 is VM b's")
		if len(told) < 3 {
			t.Errorf("it was tried %d times, want it to be tried again", len(told)-1)
		}
		came.mu.Lock()
		came.fail = nil
		came.mu.Unlock()
		time.Sleep(2 * searchEvery)
		mustTell(t, "when it does not", came.since(), foundBy("its agent")...)
	})
}
