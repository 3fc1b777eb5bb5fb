package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/vm"
)

const (
	// searchEvery is how often an address is looked for that is not known.
	searchEvery = 2 * time.Second
	// searchPatience is when it is told that it was not found: a guest without KVM
	// takes a minute or two to its network. After that it is looked for less often.
	searchPatience = 5 * time.Minute
	// confirmEvery is how often it is asked whether an address is the guest's still.
	confirmEvery = 30 * time.Second
	// slowAgent is an agent that does not answer at once: others wait for it, so it is
	// asked once in slowAgentEvery.
	slowAgent      = time.Second
	slowAgentEvery = time.Minute
	// mostClaims is how many addresses of a guest's are looked into: it may claim any.
	mostClaims = 4
	// longestReason is what is told of an error that a guest may have had a hand in.
	longestReason = 200
)

// neighborhood is who is on the host's bridges: package bridge.
type neighborhood interface {
	Neighbors(on string) ([]bridge.Neighbor, error)
	WhoHas(ctx context.Context, on string, addr netip.Addr) (macs []string, err error)
	Hear(ctx context.Context, on string) (<-chan bridge.Neighbor, error)
}

// errGone says that a VM is being removed.
var errGone = errors.New("the VM is gone")

// search finds out the address of a guest's interface on a bridge where neither the
// job nor a libvirt network gives it one: by the guest's agent, and by ARP. What a
// guest says of itself is believed if the host reaches that address over the bridge,
// and no machine but this VM answers there: published ports are to lead to no other.
type search struct {
	agent func(ctx context.Context, name string) (map[string][]netip.Addr, error)
	lan   neighborhood
	vm    string
	of    vm.Interface
	// own are the hardware addresses of the VM on that bridge. A guest with several
	// interfaces there answers by any of them for the addresses of all.
	own []string
	// move has the interface's ports lead to an address; if it is invalid, nowhere. It
	// returns those that other tasks hold. Where it fails it is asked again; errGone
	// ends the search.
	move func(ctx context.Context, addr netip.Addr) (held []string, err error)
	// settle has the ports lead to an address, if this search was the first to look who
	// is there. It is called once, after that.
	settle func(addr netip.Addr)
	// note has the next plugin know where the ports lead. Where it fails, or has nothing
	// to do, nothing follows from that: it is called again after each look.
	note func(ctx context.Context, addr netip.Addr) error
	tell func(format string, args ...any)

	known   netip.Addr      // where the ports lead, or may lead before settle; invalid: nowhere
	since   time.Time       // when the address was confirmed last, or the search began
	told    map[string]bool // what was told since, by its format
	gaveUp  bool            // nobody needs to know the address
	claims  []netip.Addr
	hearing <-chan bridge.Neighbor
	hush    context.CancelFunc // ends hearing
	deaf    error              // why nothing can be heard
	askNext time.Time          // the agent
	silent  error              // why not before
}

// run searches, and looks whether what was found is true still, until the context
// ends. Of an interface without ports it is told once where it is.
func (s *search) run(ctx context.Context) {
	defer s.stopHearing()
	settle := sync.OnceFunc(func() { s.settle(s.known) })
	for s.since = time.Now(); ctx.Err() == nil; {
		seen := s.look(ctx)
		if ctx.Err() != nil {
			return
		}
		err := s.conclude(ctx, seen)
		if err == nil {
			settle()
		}
		if errors.Is(err, errGone) || errors.Is(s.note(ctx, s.known), errGone) {
			return
		}
		if len(s.of.Ports) == 0 && (s.known.IsValid() || s.gaveUp) {
			return
		}
		if err == nil && seen.addr.IsValid() {
			s.stopHearing()
			wait(ctx, confirmEvery)
		} else {
			s.listen(ctx, s.pace())
		}
	}
}

// pace is how long to wait before the next look for an address that is not known.
func (s *search) pace() time.Duration {
	if time.Since(s.since) < searchPatience {
		return searchEvery
	}
	return confirmEvery
}

// sight is what came of a look for a guest's address.
type sight struct {
	addr  netip.Addr // invalid: it was not found
	by    string     // what says so
	tried []string   // what was tried in vain
	taken error      // why the address that was known is another machine's now
}

// conclude has the ports follow the guest, and tells of it.
func (s *search) conclude(ctx context.Context, seen sight) error {
	switch on := s.of.Bridge; {
	case seen.addr.IsValid() && seen.addr == s.known:
		s.since, s.told = time.Now(), nil
	case seen.addr.IsValid():
		held, err := s.move(ctx, seen.addr)
		if err != nil && seen.taken != nil {
			err = errors.Join(err, s.lose(ctx, seen.taken)) // whatever keeps them from the new address
		}
		if err != nil {
			s.tellOnce(err, "The guest has address %s on bridge %s, but its ports cannot be published: %s", seen.addr, on, short(err))
			return err
		}
		s.known, s.since, s.told = seen.addr, time.Now(), nil
		s.tell("The guest's address on bridge %s is %s, as %s says%s", on, seen.addr, seen.by, s.publishedBut(held))
	case seen.taken != nil:
		return s.lose(ctx, seen.taken)
	case time.Since(s.since) < searchPatience:
	case s.known.IsValid():
		s.tellOnce(nil, "The guest has not answered at %s on bridge %s for %s, where its ports lead (%s): %s",
			s.known, on, searchPatience, labelsText(s.of.Ports), strings.Join(seen.tried, "; "))
	case len(s.of.Ports) == 0:
		s.gaveUp = true
	default:
		s.tellOnce(nil, "The guest's address on bridge %s is not known after %s%s: %s. It is looked for on and on; "+
			"is there somebody on that bridge who gives the guest an address?",
			on, searchPatience, s.ports(", and its ports are not published (%s)"), strings.Join(seen.tried, "; "))
	}
	return nil
}

// lose has the ports lead nowhere, because the address is another machine's.
func (s *search) lose(ctx context.Context, taken error) error {
	on := s.of.Bridge
	if _, err := s.move(ctx, netip.Addr{}); err != nil {
		s.tellOnce(err, "The guest has lost address %s on bridge %s to another machine (%s)%s: %s", s.known, on, taken,
			s.ports(", and its ports may lead there still (%s), because they cannot be withdrawn; it is tried again"), short(err))
		return err
	}
	s.tell("The guest's address %s on bridge %s is another machine's now%s: %s", s.known, on, s.ports(", and its ports are not published any more (%s)"), taken)
	s.known, s.since, s.told = netip.Addr{}, time.Now(), nil
	return nil
}

// tellOnce tells of a trouble that lasts.
func (s *search) tellOnce(err error, format string, args ...any) {
	if s.told[format] || errors.Is(err, errGone) {
		return
	}
	if s.told == nil {
		s.told = make(map[string]bool)
	}
	s.told[format] = true
	s.tell(format, args...)
}

// ports completes a sentence, if there are any.
func (s *search) ports(format string) string {
	if len(s.of.Ports) == 0 {
		return ""
	}
	return fmt.Sprintf(format, labelsText(s.of.Ports))
}

func (s *search) publishedBut(held []string) string {
	published := slices.DeleteFunc(slices.Clone(s.of.Ports), func(p vm.Port) bool { return slices.Contains(held, p.Label) })
	if len(published) == 0 {
		return ""
	}
	return "; published for it: " + labelsText(published)
}

func labelsText(ports []vm.Port) string {
	var labels []string
	for _, p := range ports {
		labels = append(labels, p.Label)
	}
	return strings.Join(labels, ", ")
}

// look finds the guest's address: the one that is known if that is its own still.
func (s *search) look(ctx context.Context) (seen sight) {
	if s.known.IsValid() {
		err := s.confirm(ctx, s.known)
		if err == nil {
			return sight{addr: s.known}
		}
		seen.tried = append(seen.tried, err.Error())
		if errors.As(err, new(takenError)) {
			seen.taken = err
		}
	}
	for _, source := range []struct {
		by     string
		claims func(context.Context) ([]netip.Addr, error)
	}{
		{"its agent", s.toldByAgent},
		{"ARP", s.heardByARP},
	} {
		claims, err := source.claims(ctx)
		switch {
		case err != nil:
			seen.tried = append(seen.tried, fmt.Sprintf("%s tells nothing (%s)", source.by, short(err)))
		case len(claims) == 0:
			seen.tried = append(seen.tried, fmt.Sprintf("%s tells of no IPv4 address of %s", source.by, s.of.MAC))
		}
		for _, addr := range claims[:min(len(claims), mostClaims)] {
			if addr == s.known {
				continue
			}
			if err := s.confirm(ctx, addr); err != nil {
				seen.tried = append(seen.tried, fmt.Sprintf("%s tells of %s, but %s", source.by, addr, err))
				continue
			}
			seen.addr, seen.by = addr, source.by
			return seen
		}
	}
	return seen
}

// short is an error that may be as long as a guest likes.
func short(err error) string {
	text := []rune(err.Error())
	if len(text) > longestReason {
		return string(text[:longestReason]) + "…"
	}
	return string(text)
}

func (s *search) toldByAgent(ctx context.Context) (claims []netip.Addr, err error) {
	began := time.Now()
	if began.Before(s.askNext) {
		return nil, s.silent
	}
	all, err := s.agent(ctx, s.vm)
	if s.silent = err; err != nil && time.Since(began) >= slowAgent {
		s.askNext = time.Now().Add(slowAgentEvery)
	}
	for _, addr := range all[s.of.MAC] {
		if isOfOneMachine(addr) {
			claims = append(claims, addr)
		}
	}
	return claims, err
}

// heardByARP lists what the guest was heard to claim, and what the host remembers.
func (s *search) heardByARP(context.Context) ([]netip.Addr, error) {
	claims := slices.Clone(s.claims)
	neighbors, err := s.lan.Neighbors(s.of.Bridge)
	for _, n := range neighbors {
		if n.MAC == s.of.MAC && isOfOneMachine(n.Addr) && !slices.Contains(claims, n.Addr) {
			claims = append(claims, n.Addr)
		}
	}
	if len(claims) == 0 {
		err = errors.Join(s.deaf, err)
	}
	return claims, err
}

// isOfOneMachine tells whether an address is one that a guest can be reached by.
func isOfOneMachine(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() }

// takenError says which other machine has an address.
type takenError string

func (mac takenError) Error() string { return string(mac) + " answers there" }

var errNobody = errors.New("nobody answers there")

// confirm fails where an address is not the guest's alone.
func (s *search) confirm(ctx context.Context, addr netip.Addr) error {
	macs, err := s.lan.WhoHas(ctx, s.of.Bridge, addr)
	if err != nil {
		return err
	}
	for _, mac := range macs {
		if !slices.Contains(s.own, mac) {
			return takenError(mac)
		}
	}
	if len(macs) == 0 {
		return errNobody
	}
	return nil
}

// listen takes note of the addresses that the guest is heard to have, for some time.
func (s *search) listen(ctx context.Context, during time.Duration) {
	if s.hearing == nil {
		hearing, hush := context.WithCancel(ctx)
		if s.hearing, s.deaf = s.lan.Hear(hearing, s.of.Bridge); s.deaf != nil {
			hush()
		} else {
			s.hush = hush
		}
	}
	for over := time.After(during); ; {
		select {
		case <-ctx.Done():
			return
		case <-over:
			return
		case n, goesOn := <-s.hearing:
			if !goesOn { // the bridge is gone
				s.stopHearing()
			} else if n.MAC == s.of.MAC && isOfOneMachine(n.Addr) {
				s.claim(n.Addr)
			}
		}
	}
}

// claim remembers an address of the guest's, the last one first.
func (s *search) claim(addr netip.Addr) {
	others := slices.DeleteFunc(s.claims, func(a netip.Addr) bool { return a == addr })
	s.claims = append([]netip.Addr{addr}, others[:min(len(others), mostClaims-1)]...)
}

func (s *search) stopHearing() {
	if s.hush != nil {
		s.hush()
	}
	s.hearing, s.hush = nil, nil
}

// wait waits for some time, or until the context ends.
func wait(ctx context.Context, during time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(during):
	}
}
