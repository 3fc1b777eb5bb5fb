package portmap

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
)

// flows are ports of which flows may lead where they are not to any more, and where
// they are to lead: to a guest, or to the port of the host itself where no VM has it.
type flows map[port]netip.AddrPort

// noteChanged remembers ports that lead, or may lead, elsewhere after a change of a VM's.
func (t *Table) noteChanged(name string, before, after published) {
	for _, side := range []published{before, after} {
		for k := range side {
			if before[k].Guest != after[k].Guest {
				t.changed[k] = name
			}
		}
	}
}

func ofVM(name string) func(string) bool { return func(other string) bool { return other == name } }

func ofAll(string) bool { return true }

// endFlows ends the flows to ports that VMs have changed which lead elsewhere now.
// Where it fails, that is left to be done: by the next change of the VM, or by Restore.
func (t *Table) endFlows(changedBy func(name string) bool) error {
	right := flows{}
	for k, name := range t.changed {
		if !changedBy(name) {
			continue
		}
		right[k] = k.Host
		if to, is := t.all[k]; is {
			right[k] = to.Guest
		}
	}
	if len(right) == 0 {
		return nil
	}
	if err := t.forget(right); err != nil {
		return fmt.Errorf("end the flows to ports that changed: %w", err)
	}
	maps.DeleteFunc(t.changed, func(k port, _ string) bool { _, is := right[k]; return is })
	return nil
}

// forgetFlows ends the flows whose translation is no longer right: those to ports that
// are gone, which would go on reaching whoever has the guest's address next; and those
// to new ports from before, which a UDP sender that does not pause would keep
// untranslated for good. Those that lead where they should are left alone.
func forgetFlows(right flows) error {
	var errs []error
	for family, has := range map[netlink.InetFamily]func(netip.Addr) bool{
		syscall.AF_INET: netip.Addr.Is4, syscall.AF_INET6: netip.Addr.Is6,
	} {
		of := maps.Clone(right)
		maps.DeleteFunc(of, func(k port, _ netip.AddrPort) bool { return !has(k.Host.Addr()) })
		if len(of) == 0 {
			continue
		}
		_, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, of)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// MatchConntrackFlow tells of a flow that has to end: it implements
// netlink.CustomConntrackFilter.
//
// A flow may come to a port as the reply to another: one that a guest has sent from the
// number that its port has on the host, if it was masqueraded there. Of UDP, what the
// peer sends to the port from then on is that guest's, whoever has the port. Of TCP the
// peer would have to make a connection with both numbers of one that there is, so
// connections of guests to elsewhere are left alone. What the host itself sends from
// such a number is not translated.
func (f flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	proto := map[uint8]string{syscall.IPPROTO_TCP: "tcp", syscall.IPPROTO_UDP: "udp"}[flow.Forward.Protocol]
	from, to := ends(flow.Forward)
	answersFrom, answersTo := ends(flow.Reverse)
	if right, is := f[port{to, proto}]; is && answersFrom != right {
		return true
	}
	right, is := f[port{answersTo, proto}]
	return is && proto == "udp" && from != right && from != answersTo
}

// ends returns where packets of one direction of a flow come from, and go to.
func ends(t netlink.IPTuple) (from, to netip.AddrPort) {
	return addrPortOf(t.SrcIP, t.SrcPort), addrPortOf(t.DstIP, t.DstPort)
}

func addrPortOf(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
