package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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
	// mostHeard is how many addresses of a guest's are remembered: it may claim any.
	mostHeard = 4
)

// neighborhood is who is on the host's bridges: package bridge.
type neighborhood interface {
	Neighbors(on string) ([]bridge.Neighbor, error)
	WhoHas(ctx context.Context, on string, addr netip.Addr) (mac string, err error)
	Hear(ctx context.Context, on string) <-chan bridge.Neighbor
}

// search finds out the address of a guest's interface on a bridge where neither the
// job nor a libvirt network gives it one: by the guest's agent, then by ARP. What a
// guest says of itself is believed if the host reaches that address over the bridge,
// and the machine there has the interface's hardware address: published ports lead to
// no other machine.
type search struct {
	agent func(ctx context.Context, name string) (map[string][]netip.Addr, error)
	lan   neighborhood
	vm    string
	of    vm.Interface
	// found is told of an address. It fails where ports cannot be published there;
	// then it is told again.
	found func(ctx context.Context, addr netip.Addr) error
	tell  func(format string, args ...any)

	heard []netip.Addr // the guest's, the last one first
}

// run searches, and looks whether what was found is true still, until the context
// ends. known is an address that was found before; invalid: none.
func (s *search) run(ctx context.Context, known netip.Addr) {
	said := ""
	say := func(format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != said {
			said = text
			s.tell("%s", text)
		}
	}
	for began := time.Now(); ctx.Err() == nil; {
		addr, by, tried := s.look(ctx, known)
		var failed error
		if addr.IsValid() && addr != known {
			failed = s.found(ctx, addr)
		}
		switch {
		case ctx.Err() != nil:
			return
		case failed != nil:
			say("The guest has address %s on bridge %s, but its ports cannot be published: %s", addr, s.of.Bridge, failed)
		case addr.IsValid() && addr != known:
			say("The guest's address on bridge %s is %s, as %s says%s", s.of.Bridge, addr, by, s.andPorts())
			known = addr
		case !known.IsValid() && time.Since(began) >= searchPatience:
			say("The guest's address on bridge %s is not known after %s%s: %s. It is looked for on and on; "+
				"is there somebody on that bridge who gives the guest an address?",
				s.of.Bridge, searchPatience, s.butPorts(), strings.Join(tried, "; "))
		}
		if addr.IsValid() && failed == nil {
			wait(ctx, confirmEvery)
		} else {
			s.listen(ctx, s.pace(time.Since(began)))
		}
	}
}

// pace is how long to wait before the next look for an address that is not known.
func (s *search) pace(since time.Duration) time.Duration {
	if since < searchPatience {
		return searchEvery
	}
	return confirmEvery
}

func (s *search) andPorts() string {
	if len(s.of.Ports) == 0 {
		return ""
	}
	return "; its ports are published: " + labelsText(s.of.Ports)
}

func (s *search) butPorts() string {
	if len(s.of.Ports) == 0 {
		return ""
	}
	return ", and its ports are not published (" + labelsText(s.of.Ports) + ")"
}

func labelsText(ports []vm.Port) string {
	var labels []string
	for _, p := range ports {
		labels = append(labels, p.Label)
	}
	return strings.Join(labels, ", ")
}

// look returns the guest's address, which is the one that is known if that is its
// own still, and what says so. Where there is none it returns what was tried.
func (s *search) look(ctx context.Context, known netip.Addr) (addr netip.Addr, by string, tried []string) {
	if known.IsValid() && s.confirm(ctx, known) == nil {
		return known, "", nil
	}
	for _, source := range []struct {
		by    string
		addrs func(context.Context) ([]netip.Addr, error)
	}{
		{"its agent", s.toldByAgent},
		{"ARP", s.heardByARP},
	} {
		addrs, err := source.addrs(ctx)
		if err != nil {
			tried = append(tried, fmt.Sprintf("%s tells nothing (%s)", source.by, err))
			continue
		}
		if len(addrs) == 0 {
			tried = append(tried, fmt.Sprintf("%s tells of no IPv4 address of the interface (%s)", source.by, s.of.MAC))
		}
		for _, addr := range addrs {
			err := s.confirm(ctx, addr)
			if err == nil {
				return addr, source.by, nil
			}
			tried = append(tried, fmt.Sprintf("%s tells of %s, but %s", source.by, addr, err))
		}
	}
	return netip.Addr{}, "", tried
}

func (s *search) toldByAgent(ctx context.Context) ([]netip.Addr, error) {
	all, err := s.agent(ctx, s.vm)
	return slices.DeleteFunc(all[s.of.MAC], func(a netip.Addr) bool { return !isOfOneMachine(a) }), err
}

// heardByARP lists whom the host has heard, and whom it has spoken to.
func (s *search) heardByARP(context.Context) ([]netip.Addr, error) {
	addrs := slices.Clone(s.heard)
	neighbors, err := s.lan.Neighbors(s.of.Bridge)
	for _, n := range neighbors {
		if n.MAC == s.of.MAC && isOfOneMachine(n.Addr) && !slices.Contains(addrs, n.Addr) {
			addrs = append(addrs, n.Addr)
		}
	}
	return addrs, err
}

// isOfOneMachine tells whether an address is one that a guest can be reached by.
func isOfOneMachine(a netip.Addr) bool { return a.Is4() && a.IsGlobalUnicast() }

// confirm fails where an address is not the guest's.
func (s *search) confirm(ctx context.Context, addr netip.Addr) error {
	switch mac, err := s.lan.WhoHas(ctx, s.of.Bridge, addr); {
	case err != nil:
		return err
	case mac == "":
		return errors.New("nobody answers there")
	case mac != s.of.MAC:
		return fmt.Errorf("that is the address of %s", mac)
	}
	return nil
}

// listen takes note of the addresses that the guest is heard to have, for some time.
func (s *search) listen(ctx context.Context, during time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, during)
	defer cancel()
	for n := range s.lan.Hear(ctx, s.of.Bridge) {
		if n.MAC != s.of.MAC || !isOfOneMachine(n.Addr) {
			continue
		}
		others := slices.DeleteFunc(s.heard, func(a netip.Addr) bool { return a == n.Addr })
		s.heard = append([]netip.Addr{n.Addr}, others[:min(len(others), mostHeard-1)]...)
	}
	<-ctx.Done() // there may be nothing to be heard
}

// wait waits for some time, or until the context ends.
func wait(ctx context.Context, during time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(during):
	}
}
