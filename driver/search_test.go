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
	"nomad-driver-virt/hypervisor/hypervisortest"
	"nomad-driver-virt/vm"
)

// lan is a bridge in memory, and those who are on it.
type lan struct {
	mu     sync.Mutex              // guards the fields below
	owners map[netip.Addr][]string // who answers for an address
	known  []bridge.Neighbor       // to the host
	says   chan bridge.Neighbor    // what is heard
	agent  map[string][]netip.Addr // nil: there is none
	slow   time.Duration           // that the agent takes
	asked  int                     // it was, so often
	deaf   bool                    // one cannot listen
}

func (l *lan) Neighbors(string) ([]bridge.Neighbor, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.known), nil
}

func (l *lan) WhoHas(_ context.Context, _ string, addr netip.Addr) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !netip.MustParsePrefix("192.0.2.0/24").Contains(addr) && !hypervisortest.Network.Gateway.Contains(addr) {
		return nil, bridge.ErrNotOnBridge
	}
	return slices.Clone(l.owners[addr]), nil
}

func (l *lan) Hear(ctx context.Context, _ string) (<-chan bridge.Neighbor, error) {
	if l.deaf {
		return nil, errors.New("not allowed")
	}
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
	return heard, nil
}

func (l *lan) addresses(context.Context, string) (map[string][]netip.Addr, error) {
	time.Sleep(l.slow)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
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
	mu       sync.Mutex
	lines    []string
	held     []string // the answer to what was found
	fail     error
	noted    netip.Addr // last
	failNote error
	settled  []netip.Addr
	ended    chan struct{}
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

// begin searches on a bridge until the test ends. change changes how, nil: as usual.
func begin(t *testing.T, l *lan, change func(*search, *searched)) *searched {
	t.Helper()
	var came searched
	s := search{
		agent: l.addresses, lan: l, vm: "web",
		of:  vm.Interface{Bridge: "br0", MAC: ownMAC, Ports: []vm.Port{{Label: "http"}, {Label: "ssh"}}},
		own: []string{ownMAC},
		move: func(_ context.Context, addr netip.Addr) ([]string, error) {
			came.tell("published at %s", addr)
			came.mu.Lock()
			defer came.mu.Unlock()
			return came.held, came.fail
		},
		settle: func(addr netip.Addr) {
			came.mu.Lock()
			defer came.mu.Unlock()
			came.settled = append(came.settled, addr)
		},
		note: func(_ context.Context, addr netip.Addr) error {
			came.mu.Lock()
			defer came.mu.Unlock()
			came.noted = addr
			return came.failNote
		},
		tell: came.tell,
	}
	if change != nil {
		change(&s, &came)
	}
	ctx, cancel := context.WithCancel(t.Context())
	came.ended = make(chan struct{})
	go func() {
		defer close(came.ended)
		s.run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-came.ended
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
		"The guest's address on bridge br0 is 192.0.2.5, as " + by + " says; published for it: http, ssh",
	}
}

func TestAddressIsFound(t *testing.T) {
	own, second, victim := addrs("192.0.2.5")[0], addrs("192.0.2.6")[0], addrs("192.0.2.9")[0]
	for _, test := range []struct {
		name string
		lan  *lan
		says []bridge.Neighbor
		want []string
	}{
		{"by the agent", &lan{agent: map[string][]netip.Addr{ownMAC: addrs("::1", "fe80::1", "169.254.1.1", "192.0.2.5")}}, nil, foundBy("its agent")},
		{"by another interface of the agent's", &lan{agent: map[string][]netip.Addr{otherMAC: {own}}}, nil, nil},
		{"behind those of others, by the agent", &lan{agent: map[string][]netip.Addr{ownMAC: {victim, addrs("198.51.100.1")[0], own}}}, nil, foundBy("its agent")},
		{"behind more than anybody looks at", &lan{agent: map[string][]netip.Addr{ownMAC: append(addrs("192.0.2.21", "192.0.2.22", "192.0.2.23", "192.0.2.24"), own)}}, nil, nil},
		{"that another answers for, too", &lan{agent: map[string][]netip.Addr{ownMAC: {second}}}, nil, nil},
		{"as it is heard", &lan{}, []bridge.Neighbor{{MAC: otherMAC, Addr: own}, {MAC: ownMAC, Addr: victim}, {MAC: ownMAC, Addr: own}}, foundBy("ARP")},
		{"that the host remembers", &lan{known: []bridge.Neighbor{{MAC: otherMAC, Addr: victim}, {MAC: ownMAC, Addr: own}}}, nil, foundBy("ARP")},
		{"nowhere", &lan{}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.lan.owners = map[netip.Addr][]string{own: {ownMAC}, second: {ownMAC, otherMAC}, victim: {otherMAC}}
				test.lan.says = make(chan bridge.Neighbor, len(test.says))
				for _, n := range test.says {
					test.lan.says <- n
				}
				came := begin(t, test.lan, nil)
				time.Sleep(2 * searchEvery)
				mustTell(t, test.name, came.since(), test.want...)
			})
		})
	}
}

// A guest with two interfaces on a bridge answers by either for both addresses.
func TestAddressOfOneOfSeveralInterfacesIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr][]string{own: {otherMAC}}, agent: map[string][]netip.Addr{ownMAC: {own}}}
		came := begin(t, l, func(s *search, _ *searched) { s.own = append(s.own, otherMAC) })
		time.Sleep(searchEvery)
		mustTell(t, "by the other one", came.since(), foundBy("its agent")...)
	})
}

func TestAddressThatIsNotFoundIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		victim := addrs("192.0.2.9")[0]
		l := &lan{
			deaf:   true,
			owners: map[netip.Addr][]string{victim: {otherMAC}},
			known:  []bridge.Neighbor{{MAC: ownMAC, Addr: victim}},
		}
		came := begin(t, l, nil)
		time.Sleep(searchPatience - time.Second)
		mustTell(t, "before its time is over", came.since())
		time.Sleep(time.Minute)
		mustTell(t, "afterwards", came.since(), "The guest's address on bridge br0 is not known after 5m0s, "+
			"and its ports are not published (http, ssh): its agent tells nothing (there is none); "+
			"ARP tells of 192.0.2.9, but "+otherMAC+" answers there. It is looked for on and on; "+
			"is there somebody on that bridge who gives the guest an address?")
		l.change(func() { l.known = nil }) // another reason is no other trouble
		time.Sleep(time.Hour)
		mustTell(t, "an hour later", came.since())
		l.change(func() {
			l.owners[addrs("192.0.2.5")[0]] = []string{ownMAC}
			l.agent = map[string][]netip.Addr{ownMAC: addrs("192.0.2.5")}
		})
		time.Sleep(2 * confirmEvery)
		mustTell(t, "when it has one", came.since(), foundBy("its agent")...)
	})
}

func TestWhatAGuestSaysIsToldInShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{}
		came := begin(t, l, func(s *search, _ *searched) {
			s.agent = func(context.Context, string) (map[string][]netip.Addr, error) {
				return nil, errors.New(strings.Repeat("hostile ", 10_000))
			}
		})
		time.Sleep(searchPatience + confirmEvery)
		for _, line := range came.since() {
			if len(line) > 1000 {
				t.Errorf("an event has %d bytes", len(line))
			}
		}
	})
}

func TestAddressIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := addrs("192.0.2.4")[0], addrs("192.0.2.5")[0]
		l := &lan{
			owners: map[netip.Addr][]string{first: {ownMAC}, second: {ownMAC}},
			agent:  map[string][]netip.Addr{ownMAC: {second, first}},
		}
		came := begin(t, l, func(s *search, _ *searched) { s.known = first })
		time.Sleep(time.Hour)
		mustTell(t, "as long as it answers at the first", came.since())
		l.change(func() { delete(l.owners, first) })
		time.Sleep(2 * confirmEvery)
		mustTell(t, "when it answers at the second alone", came.since(), foundBy("its agent")...)
		l.change(func() { delete(l.owners, second) })
		time.Sleep(time.Hour)
		mustTell(t, "while it does not answer", came.since(), "The guest has not answered at 192.0.2.5 on bridge br0 for 5m0s, "+
			"where its ports lead (http, ssh): nobody answers there; its agent tells of 192.0.2.4, but nobody answers there; "+
			"ARP tells of no IPv4 address of "+ownMAC)
		l.change(func() { l.owners[second] = []string{ownMAC} })
		time.Sleep(time.Hour)
		mustTell(t, "when it answers again", came.since())
	})
}

// What was a guest's address once may be another machine's.
func TestPortsLeadToNoOtherMachine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr][]string{own: {ownMAC}}}
		came := begin(t, l, func(s *search, _ *searched) { s.known = own })
		time.Sleep(time.Hour)
		mustTell(t, "as long as it is the guest's", came.since())
		l.change(func() { l.owners[own] = []string{ownMAC, otherMAC} })
		time.Sleep(confirmEvery + time.Second)
		mustTell(t, "when another has it", came.since(), "published at invalid IP",
			"The guest's address 192.0.2.5 on bridge br0 is another machine's now, and its ports are not published any more (http, ssh): "+otherMAC+" answers there")
		time.Sleep(confirmEvery)
		mustTell(t, "afterwards", came.since())
	})
}

// What keeps them from being withdrawn is told, also of a guest whose silence was told.
func TestPortsThatCannotBeWithdrawnAreToldAndTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr][]string{own: {ownMAC}}}
		came := begin(t, l, func(s *search, _ *searched) { s.known = own })
		l.change(func() { delete(l.owners, own) })
		time.Sleep(2*searchPatience + time.Second) // between two looks, here and below
		if told := came.since(); len(told) != 1 || !strings.Contains(told[0], "has not answered") {
			t.Errorf("of a guest that is silent it was told %q", told)
		}
		came.mu.Lock()
		came.fail = errors.New("nft does not answer")
		came.mu.Unlock()
		l.change(func() { l.owners[own] = []string{otherMAC} })
		time.Sleep(3 * confirmEvery)
		told := came.since()
		events := slices.DeleteFunc(slices.Clone(told), func(line string) bool { return strings.HasPrefix(line, "published") })
		mustTell(t, "while it fails", events, "The guest has lost address 192.0.2.5 on bridge br0 to another machine ("+otherMAC+
			" answers there), and its ports may lead there still (http, ssh), because they cannot be withdrawn; it is tried again: nft does not answer")
		if len(told) < 3 {
			t.Errorf("it was tried %d times, want it to be tried again", len(told)-1)
		}
		came.mu.Lock()
		came.fail = nil
		came.mu.Unlock()
		time.Sleep(2 * confirmEvery)
		if told := came.since(); len(told) != 2 || !strings.Contains(told[1], "not published any more (http, ssh)") {
			t.Errorf("when it does not fail it was told %q", told)
		}
	})
}

// The guest has another address, where its ports cannot be published.
func TestPortsAreWithdrawnThatCannotFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost, own := addrs("192.0.2.4")[0], addrs("192.0.2.5")[0]
		l := &lan{
			owners: map[netip.Addr][]string{lost: {otherMAC}, own: {ownMAC}},
			agent:  map[string][]netip.Addr{ownMAC: {own}},
		}
		came := begin(t, l, func(s *search, came *searched) {
			s.known = lost
			s.move = func(_ context.Context, addr netip.Addr) ([]string, error) {
				if addr.IsValid() {
					return nil, errors.New("libvirt is away")
				}
				came.tell("withdrawn")
				return nil, nil
			}
		})
		time.Sleep(time.Minute)
		mustTell(t, "as long as libvirt is away", came.since(), "withdrawn",
			"The guest's address 192.0.2.4 on bridge br0 is another machine's now, and its ports are not published any more (http, ssh): "+otherMAC+" answers there",
			"The guest has address 192.0.2.5 on bridge br0, but its ports cannot be published: libvirt is away")
	})
}

// What was noted before, the next plugin would take for true.
func TestNoteFollowsThePorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr][]string{own: {otherMAC}}}
		came := begin(t, l, func(s *search, came *searched) {
			s.known, came.noted, came.failNote = own, own, errors.New("libvirt is away")
		})
		synctest.Wait()
		came.mu.Lock()
		came.noted, came.failNote = own, nil // libvirt comes back
		came.mu.Unlock()
		time.Sleep(searchEvery)
		synctest.Wait()
		came.mu.Lock()
		defer came.mu.Unlock()
		if came.noted.IsValid() {
			t.Errorf("it is noted that the guest is at %s, which is another machine's", came.noted)
		}
	})
}

func TestPortsThatCannotBePublishedAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := addrs("192.0.2.5")[0]
		l := &lan{owners: map[netip.Addr][]string{own: {ownMAC}}, agent: map[string][]netip.Addr{ownMAC: {own}}}
		came := begin(t, l, func(_ *search, came *searched) { came.fail = errors.New("port 80 is VM b's") })
		time.Sleep(3*searchEvery + time.Second)
		told := came.since()
		events := slices.DeleteFunc(slices.Clone(told), func(line string) bool { return strings.HasPrefix(line, "published") })
		mustTell(t, "while it fails", events,
			"The guest has address 192.0.2.5 on bridge br0, but its ports cannot be published: port 80 is VM b's")
		if len(told) < 3 {
			t.Errorf("it was tried %d times, want it to be tried again", len(told)-1)
		}
		came.mu.Lock()
		came.fail, came.held = nil, []string{"ssh"}
		came.mu.Unlock()
		time.Sleep(2 * searchEvery)
		mustTell(t, "when it does not", came.since(), "published at 192.0.2.5",
			"The guest's address on bridge br0 is 192.0.2.5, as its agent says; published for it: http")
	})
}

func TestSearchEnds(t *testing.T) {
	own := addrs("192.0.2.5")[0]
	for name, change := range map[string]func(*search, *searched){
		"of a VM that is gone": func(_ *search, came *searched) { came.fail = errGone },
		"of an interface without ports, when it was told where it is": func(s *search, _ *searched) { s.of.Ports = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &lan{owners: map[netip.Addr][]string{own: {ownMAC}}, agent: map[string][]netip.Addr{ownMAC: {own}}}
			came := begin(t, l, change)
			<-came.ended
			for _, line := range came.since() {
				if strings.Contains(line, "cannot be published") {
					t.Errorf("%s: it was told that %q", name, line)
				}
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		came := begin(t, &lan{}, func(s *search, _ *searched) { s.of.Ports = nil })
		<-came.ended
		mustTell(t, "of an interface without ports that is not found", came.since())
	})
}

// Others wait for an agent that does not answer.
func TestSlowAgentIsAskedSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lan{slow: 5 * time.Second}
		begin(t, l, nil)
		time.Sleep(4 * time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.asked < 2 || l.asked > 4 {
			t.Errorf("in 4 minutes it was asked %d times, want about once a minute", l.asked)
		}
	})
}

// What an earlier plugin has noted is taken for true when it was looked who is there.
func TestNotedAddressIsSettledByTheFirstLook(t *testing.T) {
	own, none := addrs("192.0.2.5")[0], netip.Addr{}
	for name, test := range map[string]struct {
		owner string
		want  netip.Addr
	}{
		"the guest's": {ownMAC, own}, "nobody's": {"", own}, "another machine's": {otherMAC, none},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &lan{owners: map[netip.Addr][]string{}}
			if test.owner != "" {
				l.owners[own] = []string{test.owner}
			}
			came := begin(t, l, func(s *search, _ *searched) { s.known = own })
			time.Sleep(2 * confirmEvery)
			came.mu.Lock()
			defer came.mu.Unlock()
			if want := []netip.Addr{test.want}; !slices.Equal(came.settled, want) {
				t.Errorf("%s is settled as %v, want %v", name, came.settled, want)
			}
		})
	}
}
