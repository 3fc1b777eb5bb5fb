package portmap

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"nomad-driver-virt/vm"
)

// port is one port of the host for one protocol: the key of an element.
type port struct {
	Host  netip.AddrPort
	Proto string // "tcp" or "udp"
}

// both returns the ports of both protocols.
func both(host netip.AddrPort) [2]port { return [2]port{{host, "tcp"}, {host, "udp"}} }

// target is where a published port leads, and whose it is.
type target struct {
	VM     string
	Label  string         // of the port, as far as a comment holds it
	Bridge string         // that the guest is on
	Guest  netip.AddrPort // none, of what is wanted: what is published is left as it is
	Beside bool           // it gives way to other VMs
	// Isolated tells that the guest can answer nobody but those on its bridge.
	Isolated bool
}

// published is what is published: on the host, or by one VM of it.
type published map[port]target

// Names that stand in rules between quotes, which nft has no way to escape.
var (
	vmName     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,72}$`)
	bridgeName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,14}$`)
)

// publishedBy returns what the publications of a VM publish: each port for both
// protocols.
func publishedBy(all ...vm.Publication) (published, error) {
	own := published{}
	for _, p := range all {
		if len(p.Ports) == 0 {
			continue
		}
		if err := validate(p); err != nil {
			return nil, err
		}
		if err := own.add(p); err != nil {
			return nil, err
		}
	}
	return own, nil
}

func (p published) add(of vm.Publication) error {
	for _, q := range of.Ports {
		t := target{
			VM:     of.VM,
			Bridge: of.Bridge,
			Guest:  netip.AddrPortFrom(of.Guest.Unmap(), q.Guest),
			Beside: q.Beside,

			Isolated: of.Isolated,
		}
		if of.AsItIs {
			t.Guest = netip.AddrPort{}
		}
		t.Label = t.shortLabel(q.Label)
		host := netip.AddrPortFrom(q.Host.Addr().Unmap(), q.Host.Port())
		for _, k := range both(host) {
			other, ok := p[k]
			if ok && t.Beside {
				continue
			}
			if ok && !other.Beside {
				return fmt.Errorf("%s is given to two ports (labels %q and %q): give each its own", host, other.Label, t.Label)
			}
			p[k] = t
		}
	}
	return nil
}

// validate refuses what cannot be published.
func validate(p vm.Publication) error {
	if !vmName.MatchString(p.VM) {
		return fmt.Errorf("the VM's name must be 1 to 72 of letters, digits, '.', '_' and '-'")
	}
	if !bridgeName.MatchString(p.Bridge) {
		return fmt.Errorf("bridge %q: the name must be 1 to 15 of letters, digits, '.', '_' and '-'", p.Bridge)
	}
	if err := validGuest(p); err != nil {
		return fmt.Errorf("guest address %q: %w", p.Guest, err)
	}
	for _, q := range p.Ports {
		if err := unicast(q.Host.Addr()); err != nil {
			return fmt.Errorf("port %q: host address %q: %w", q.Label, q.Host.Addr(), err)
		}
		if !p.AsItIs && q.Host.Addr().Unmap().Is4() != p.Guest.Unmap().Is4() {
			return fmt.Errorf("port %q: host address %s cannot lead to %s: both have to be IPv4, or IPv6", q.Label, q.Host.Addr(), p.Guest)
		}
		if q.Host.Port() == 0 {
			return fmt.Errorf("port %q: the port of the host is 0: must be 1 to 65535", q.Label)
		}
		if q.Guest == 0 {
			return fmt.Errorf("port %q: the port of the guest is 0: must be 1 to 65535", q.Label)
		}
	}
	return nil
}

func validGuest(p vm.Publication) error {
	switch {
	case p.AsItIs:
		return nil
	case p.Guest.Unmap().IsLoopback():
		return fmt.Errorf("must be the guest's on its bridge")
	}
	return unicast(p.Guest)
}

// unicast refuses what is not the address of one machine, which others can reach; of
// IPv4 one that the machine itself can reach will do.
func unicast(a netip.Addr) error {
	a = a.Unmap()
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	switch {
	case a == netip.IPv6Loopback():
		return fmt.Errorf("no way leads from ::1 to another machine on Linux: use 127.0.0.1")
	case a.Is6() && (a.IsLinkLocalUnicast() || a.Zone() != ""):
		return fmt.Errorf("is of one link alone: use a global address")
	case !a.IsValid(), a.IsUnspecified(), a.IsMulticast(), a == broadcast:
		return fmt.Errorf("must be a unicast address")
	}
	return nil
}

// of returns what a VM publishes.
func (p published) of(name string) published {
	own := published{}
	for k, t := range p {
		if t.VM == name {
			own[k] = t
		}
	}
	return own
}

// asItIs returns own with what the VM publishes already, if anything, where it is not
// known where that is to lead.
func (p published) asItIs(name string, own published) published {
	after := maps.Clone(own)
	for k, t := range own {
		if t.Guest.IsValid() {
			continue
		}
		if is := p[k]; is.VM == name {
			after[k] = is
		} else {
			delete(after, k)
		}
	}
	return after
}

// publishedEach returns what VMs publish, by their names. An error tells of what
// cannot be published at all.
func publishedEach(all []vm.Publication) (map[string]published, error) {
	byVM := make(map[string][]vm.Publication)
	for _, p := range all {
		byVM[p.VM] = append(byVM[p.VM], p)
	}
	var errs []error
	each := make(map[string]published)
	for name, all := range byVM {
		own, err := publishedBy(all...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		each[name] = own
	}
	return each, errors.Join(errs...)
}

// names lists the VMs that publish something, in order.
func (p published) names() []string {
	names := map[string]bool{}
	for _, t := range p {
		names[t.VM] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// with returns p with add in place of remove.
func (p published) with(remove, add published) published {
	after := maps.Clone(p)
	for k := range remove {
		delete(after, k)
	}
	maps.Copy(after, add)
	return after
}

// isAny tells whether one of the ports has such an address of the host.
func (p published) isAny(such func(netip.Addr) bool) bool {
	for k := range p {
		if such(k.Host.Addr()) {
			return true
		}
	}
	return false
}

// chosen returns the ports at addresses that were chosen.
func (p published) chosen() published {
	chosen := maps.Clone(p)
	maps.DeleteFunc(chosen, func(_ port, t target) bool { return t.Beside })
	return chosen
}

// ports returns the ports in order.
func (p published) ports() []port {
	return slices.SortedFunc(maps.Keys(p), func(a, b port) int {
		return cmp.Or(a.Host.Compare(b.Host), strings.Compare(a.Proto, b.Proto))
	})
}

// bridges returns the bridges that published ports lead to, in order.
func (p published) bridges() []string {
	return p.bridgesWhere(func(port, target) bool { return true })
}

// loopbackBridges returns the bridges that ports of loopback addresses lead to,
// in order.
func (p published) loopbackBridges() []string {
	return p.bridgesWhere(func(k port, _ target) bool { return k.Host.Addr().IsLoopback() })
}

// isolatedBridges returns the bridges that lead nowhere, in order.
func (p published) isolatedBridges() []string {
	return p.bridgesWhere(func(_ port, t target) bool { return t.Isolated })
}

func (p published) bridgesWhere(keep func(port, target) bool) []string {
	names := map[string]bool{}
	for k, t := range p {
		if keep(k, t) {
			names[t.Bridge] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// sameRules tells whether the rules for these ports are those for others.
func (p published) sameRules(others published) bool {
	return len(p) > 0 && len(others) > 0 &&
		slices.Equal(p.bridges(), others.bridges()) && slices.Equal(p.loopbackBridges(), others.loopbackBridges()) &&
		slices.Equal(p.isolatedBridges(), others.isolatedBridges())
}

// missing returns what is in a and not in b.
func missing(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// maxComment is how many bytes nft keeps with an element.
const maxComment = 127

// beside is how a comment says that the port gives way. A label has no space.
const beside = " too"

// isolated is how a comment says that the guest can answer nobody but those on its
// bridge. The name of a bridge has no space.
const isolated = " alone"

// comment is what an element says of its owner: "VM LABEL on BRIDGE", "VM LABEL too on
// BRIDGE", or either of them with " alone" behind.
func (t target) comment() string {
	label := t.Label
	if t.Beside {
		label += beside
	}
	comment := t.VM + " " + label + " on " + t.Bridge
	if t.Isolated {
		comment += isolated
	}
	return comment
}

// parseComment reads back what a comment says.
func parseComment(s string) (t target, ok bool) {
	name, rest, found := strings.Cut(s, " ")
	i := strings.LastIndex(rest, " on ")
	if !found || i < 0 {
		return target{}, false
	}
	label, isBeside := strings.CutSuffix(rest[:i], beside)
	bridge, isIsolated := strings.CutSuffix(rest[i+len(" on "):], isolated)
	return target{VM: name, Label: label, Bridge: bridge, Beside: isBeside, Isolated: isIsolated}, true
}

// shortLabel makes a label fit for the comment: plain characters, and cut to what
// the names leave of it.
func (t target) shortLabel(label string) string {
	plain := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, label)
	t.Label = ""
	room := maxComment - len(t.comment())
	return plain[:min(len(plain), room)]
}
