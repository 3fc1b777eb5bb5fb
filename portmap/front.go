package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A front is a chain of somebody else's through which forwarded packets go, and in
// which libvirt rejects what is new to a NAT network. An accept in our own table
// would not overrule that: one that stands ahead of libvirt's rules does. It is one
// rule, however many ports there are, and matches only what our table translated.
//
// Which of them there are depends on libvirt's back end, and a host may have both:
// an operator can switch. Where there is none, nothing has to be let in.
type front interface {
	// letIn puts the rule in place, or takes it out. Where it is as it should be,
	// nothing is written.
	letIn(ctx context.Context, on bool) error
}

// comment tells a person, and us, whose a rule in another's chain is.
const comment = "nomad-driver-virt: published ports"

// family is a version of IP.
type family struct {
	name     string
	has      func(netip.Addr) bool // tells whether it is forwarded what comes to a host's address
	forwards func() error          // tells why the host forwards none of it
	fronts   []front
}

var families = []family{
	{"IPv4", isForwardedIPv4, forwardsIPv4, []front{iptablesFront{"iptables"}, nftablesFront{"ip"}}},
	{"IPv6", netip.Addr.Is6, forwardsIPv6, []front{iptablesFront{"ip6tables"}, nftablesFront{"ip6"}}},
}

// isForwardedIPv4 leaves out loopback addresses: what is for them comes from the host
// itself, which sends it, and forwards nothing.
func isForwardedIPv4(a netip.Addr) bool { return a.Is4() && !a.IsLoopback() }

// forwardsIPv4 is an error where the host forwards no IPv4, and what is published would
// answer nobody but the host. Devices may differ from what is set for all of them.
func forwardsIPv4() error {
	settings, err := filepath.Glob("/proc/sys/net/ipv4/conf/*/forwarding")
	if err != nil {
		return err // of the pattern
	}
	for _, setting := range settings {
		if setting == "/proc/sys/net/ipv4/conf/default/forwarding" {
			continue // of devices that are still to come
		}
		value, err := os.ReadFile(setting)
		if err == nil && strings.TrimSpace(string(value)) != "0" {
			return nil
		} // otherwise the device has gone
	}
	return fmt.Errorf("the host forwards no IPv4, which libvirt turns on when it starts a network with forwarding: " +
		"sysctl -w net.ipv4.ip_forward=1 (and in /etc/sysctl.d, lest sysctl --system turns it off)")
}

// open lets connections to published ports in wherever they might be rejected. It is
// no use by halves: nothing is written after an error.
func (f family) open(ctx context.Context) error {
	if err := f.forwards(); err != nil {
		return err
	}
	for _, front := range f.fronts {
		if err := front.letIn(ctx, true); err != nil {
			return err
		}
	}
	return nil
}

// close lets connections to published ports in no longer.
func (f family) close(ctx context.Context) error {
	var errs []error
	for _, front := range f.fronts {
		errs = append(errs, front.letIn(ctx, false))
	}
	return errors.Join(errs...)
}

// iptablesFront is the chain FORWARD of the program: libvirt's iptables back end
// has it lead to chains of its own.
type iptablesFront struct{ program string }

func (f iptablesFront) letIn(ctx context.Context, on bool) error {
	rules, err := f.run(ctx, "-S", "FORWARD")
	var exit *exec.ExitError
	const noTable = 3 // exit status, of a kernel that has none
	if errors.Is(err, exec.ErrNotFound) || errors.As(err, &exit) && exit.ExitCode() == noTable {
		return nil
	}
	if err != nil {
		return err
	}
	on = on && mayRefuse(string(rules))
	if on && accepts(string(rules)) {
		return nil
	}
	for range strings.Count(string(rules), comment) { // it may be behind libvirt's
		if err := f.change(ctx, "-D"); err != nil {
			return err
		}
	}
	if !on {
		return nil
	}
	return f.change(ctx, "-I")
}

func (f iptablesFront) change(ctx context.Context, how string) error {
	_, err := f.run(ctx, how, "FORWARD",
		"-m", "connmark", "--mark", fmt.Sprintf("%#x/%#x", ourMark, ourMark),
		"-m", "conntrack", "--ctstate", "DNAT",
		"-m", "comment", "--comment", comment,
		"-j", "ACCEPT")
	return err
}

// iptables of the older kind has one lock, which it holds for moments. Who waits for it
// keeps the turn to use the table.
const (
	lockFile     = "/run/xtables.lock"
	lockPatience = 10 * time.Second
)

// lockedError says that another program holds the lock.
type lockedError struct {
	program string
	said    error
}

func (e lockedError) Error() string {
	return fmt.Sprintf("%s waited %s for the lock %s, which another program holds (fuser -v %[3]s tells which): %s",
		e.program, lockPatience, lockFile, e.said)
}

func (e lockedError) Unwrap() error { return e.said }

// run runs the program, which waits for its lock.
func (f iptablesFront) run(ctx context.Context, args ...string) ([]byte, error) {
	seconds := strconv.Itoa(int(lockPatience.Seconds()))
	out, err := run(ctx, "", f.program, append([]string{"-w", seconds}, args...)...)
	var exit *exec.ExitError
	const resourceProblem = 4 // exit status
	if errors.As(err, &exit) && exit.ExitCode() == resourceProblem && strings.Contains(err.Error(), "xtables") {
		return nil, lockedError{f.program, err}
	}
	return out, err
}

// mayRefuse tells whether a chain has anything that may refuse a packet: of one as
// iptables -S prints it.
func mayRefuse(rules string) bool {
	for rule := range strings.Lines(rules) {
		if rule = strings.TrimSpace(rule); rule != "-P FORWARD ACCEPT" && !strings.Contains(rule, comment) {
			return true
		}
	}
	return false
}

// accepts tells whether our rule is there, and ahead of those that lead to
// libvirt's: of a chain as iptables -S prints it.
func accepts(rules string) bool {
	for rule := range strings.Lines(rules) {
		switch {
		case strings.Contains(rule, comment):
			return true
		case strings.Contains(rule, "-j LIBVIRT_"):
			return false
		}
	}
	return false
}

// nftablesFront is where libvirt's nftables back end begins, in its table of a
// family. It rejects in guest_input, whose rules it writes anew, each at the head,
// when a network starts. So ours stands in the chain that leads there, which
// libvirt makes once and then leaves alone: it stays first while libvirt works.
type nftablesFront struct{ family string }

const libvirtChain = "libvirt_network forward"

func (f nftablesFront) letIn(ctx context.Context, on bool) error {
	text, err := run(ctx, "", "nft", "--stateless", "--handle", "list", "chain", f.family, "libvirt_network", "forward")
	if isMissing(err) || errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	changes := f.changes(string(text), on)
	if changes == "" {
		return nil
	}
	_, err = run(ctx, changes, "nft", "-f", "-")
	return err
}

// changes is what nft is told so that the chain, as nft lists it, begins with our
// rule, or has none; "": nothing.
func (f nftablesFront) changes(text string, on bool) string {
	var ours []string // handles
	isFirst, rules := false, 0
	for line := range strings.Lines(text) {
		rule, handle, hasHandle := strings.Cut(strings.TrimSpace(line), " # handle ")
		if !hasHandle || strings.HasSuffix(rule, "{") {
			continue // of the table or the chain, or how it is hooked
		}
		if rules++; strings.Contains(rule, comment) {
			ours = append(ours, handle)
			isFirst = isFirst || rules == 1
		}
	}
	if on && isFirst && len(ours) == 1 {
		return ""
	}
	var b strings.Builder
	for _, handle := range ours {
		fmt.Fprintf(&b, "delete rule %s %s handle %s\n", f.family, libvirtChain, handle)
	}
	if on {
		fmt.Fprintf(&b, "insert rule %s %s ct mark & %#x != 0 ct status dnat counter accept comment %q\n",
			f.family, libvirtChain, ourMark, comment)
	}
	return b.String()
}
