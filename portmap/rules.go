package portmap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
)

const (
	tableName = "nomad_virt" // of the family inet: it has both versions of IP

	// Bits of the conntrack mark.
	ourMark     = 0x80  // to a published port, rather than forwarded by somebody else
	hairpinMark = 0x100 // over a bridge to a guest on it, by the host's address
)

// String is the port as the key of an element.
func (k port) String() string {
	return fmt.Sprintf("%s . %s . %d", k.Host.Addr(), k.Proto, k.Host.Port())
}

// element is what stands in the map for a port.
func (p published) element(k port) string {
	t := p[k]
	return fmt.Sprintf("%s comment %q : %s . %d", k, t.comment(), t.Guest.Addr(), t.Guest.Port())
}

// change is what is done to elements of one map.
type change struct {
	How, Map string
	Elements []string
}

// changes does one thing to all elements, in order, which are of two maps.
func changes(how string, p published, element func(port) string) (all []change) {
	for _, of := range []struct {
		name string
		has  func(netip.Addr) bool
	}{{"ports", netip.Addr.Is4}, {"ports6", netip.Addr.Is6}} {
		c := change{How: how, Map: of.name}
		for _, k := range p.ports() {
			if of.has(k.Host.Addr()) {
				c.Elements = append(c.Elements, element(k))
			}
		}
		if len(c.Elements) > 0 {
			all = append(all, c)
		}
	}
	return all
}

// transaction is what nft is told to bring the host to after, in which a VM
// publishes add instead of remove. The few rules are written anew each time;
// of the elements, which may be many, only the VM's own are touched.
//
// An element is created, not added: the kernel then refuses a port that
// somebody else has put in, and with it the whole transaction.
func transaction(remove, add, after published) string {
	if len(after) == 0 {
		return deleteTable
	}
	var b strings.Builder
	err := rules.Execute(&b, map[string]any{
		"Bridges":         after.bridges(),
		"LoopbackBridges": after.loopbackBridges(),
		"IsolatedBridges": after.isolatedBridges(),
		"Changes":         slices.Concat(changes("delete", remove, port.String), changes("create", add, add.element)),
	})
	if err != nil {
		panic(err) // the template and its values are all of this package
	}
	return b.String()
}

// deleteTable adds the table first: to delete one that is not there is an error.
const deleteTable = "add table inet " + tableName + "\ndelete table inet " + tableName + "\n"

// rules is a template of transactions.
//
// Only the first packet of a connection goes through chains of type nat, and a
// lookup that finds nothing ends its rule, not the chain. So translate marks
// every new connection, and those that are not translated lose the mark again.
// (A map cannot be asked whether it holds a key without using the value.)
//
// What comes over a bridge for a guest of the same bridge is masqueraded, whoever sent
// it: another guest, or a machine beyond the host's network card if that is in the
// bridge. Replies would go to them past the host. It is told in prerouting, because in
// postrouting the interface that a packet came in by is not known while
// br_netfilter has bridged packets go through these chains.
//
// A guest on a bridge that leads nowhere has no way back to who is not on it: whoever asks
// it, the host itself too, is masqueraded.
//
// A loopback address is never translated in prerouting: what arrives there for
// 127.0.0.1 came over a wire, and reaches nothing that listens on the host
// either.
//
// route_localnet, which lets connections from 127.0.0.1 out to a bridge, would
// also let in what the guests on it send to or from loopback addresses. The
// guard drops those packets as they are on the wire; replies to the host are
// still addressed to the bridge's own address there.
var rules = template.Must(template.New("").Parse(fmt.Sprintf(`add table inet %[1]s
flush table inet %[1]s
table inet %[1]s {
	map ports {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
	}
	map ports6 {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
	}
	chain guard {
		type filter hook prerouting priority raw; policy accept;
{{- range .LoopbackBridges}}
		iifname "{{.}}" ip saddr 127.0.0.0/8 drop
		iifname "{{.}}" ip daddr 127.0.0.0/8 drop
{{- end}}
	}
	chain translate {
		ct mark set ct mark | %#[2]x
		dnat ip to ip daddr . meta l4proto . th dport map @ports
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6
		ct mark set ct mark & %#[3]x
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr 127.0.0.0/8 return
		jump translate
	}
	chain output {
		type nat hook output priority -100; policy accept;
		jump translate
	}
	chain hairpin {
		type filter hook prerouting priority dstnat + 1; policy accept;
		ct state != new return
		ct mark & %#[2]x == 0 return
{{- range .Bridges}}
		iifname "{{.}}" fib daddr oifname "{{.}}" ct mark set ct mark | %#[4]x
{{- end}}
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ct mark & %#[2]x == 0 return
		ip saddr 127.0.0.0/8 masquerade
		ct mark & %#[4]x != 0 masquerade
{{- range .IsolatedBridges}}
		oifname "{{.}}" masquerade
{{- end}}
	}
}
{{- range .Changes}}
{{.How}} element inet %[1]s {{.Map}} {
{{- range .Elements}}
	{{.}},
{{- end}}
}
{{- end}}
`, tableName, ourMark, ^uint32(ourMark), hairpinMark)))
