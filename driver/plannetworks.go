package driver

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/bridge"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/portmap"
	"nomad-driver-virt/vm"
)

func planInterfaces(r request, p *problems) []vm.Interface {
	if labels := allocatedLabels(r.nomad); len(r.task.NetworkInterfaces) == 0 && len(labels) > 0 {
		p.addf("config.network_interface", "is missing, and the group publishes ports (%s), which cannot lead to a VM without a network: "+
			"add one, or have the task in a group without ports", strings.Join(labels, ", "))
	}
	var all []vm.Interface
	for index, n := range r.task.NetworkInterfaces {
		path := indexed("config.network_interface", index)
		var i vm.Interface
		switch {
		case (n.Bridge == nil) == (n.Macvtap == nil):
			p.addf(path, "has to hold one block, bridge or macvtap")
			continue
		case n.Macvtap != nil:
			i = planMacvtap(r, path+".macvtap", *n.Macvtap, p)
		case n.Bridge.Name == "":
			p.addf(path+".bridge.name", "is missing; libvirt's default network has virbr0")
			continue
		default:
			i = planBridge(r, path+".bridge", *n.Bridge, labelsOf(r.task.NetworkInterfaces[:index]), p)
		}
		i.MAC = planMAC(r, index, path+".mac", n.MAC, p)
		planIPv6(r, path+".bridge", &i, p)
		i.Filter = planFilter(r, path, i, p)
		i.Reserved = n.MAC != "" && isReservedByOthers(r, i)
		refuseTaken(r, path+".mac", i.MAC, p)
		if slices.ContainsFunc(all, func(other vm.Interface) bool { return other.MAC == i.MAC }) {
			p.addf(path+".mac", "%s is another interface's, too; give each its own, or leave mac out", i.MAC)
		}
		all = append(all, i)
	}
	oneWayOut(all)
	return all
}

// toldOf returns the interfaces that cloud-init is to be told of: by itself it asks
// for an address on the first one alone.
func toldOf(all []vm.Interface) []vm.Interface {
	if len(all) > 1 || len(all) == 1 && (all[0].Address.IsValid() || all[0].Address6.IsValid()) {
		return all
	}
	return nil
}

// labelsOf lists the labels that interfaces publish.
func labelsOf(interfaces []NetworkInterface) (labels []string) {
	for _, n := range interfaces {
		if n.Bridge != nil {
			labels = append(labels, n.Bridge.Ports...)
		}
	}
	return labels
}

// planBridge plans an interface on a bridge. taken are the labels of those before it.
func planBridge(r request, path string, b Bridge, taken []string, p *problems) vm.Interface {
	i := vm.Interface{Bridge: b.Name}
	at := networkOf(r.facts.Networks, b.Name)
	isBridge := slices.ContainsFunc(r.links, func(l bridge.Link) bool { return l.Name == b.Name && l.IsBridge })
	planAddress(path, b, &i, p)
	switch {
	case at >= 0:
		planInNetwork(path, r.facts.Networks[at], &i, p)
	case !isBridge:
		p.addf(path+".name", "the host has no bridge %q; there are: %s", b.Name, bridgesOf(r))
	}
	if on := holderOf(r, i.Address.Addr()); on != "" {
		p.addf(path+".address", "%s is the host's own, on %s; choose another", i.Address.Addr(), on)
	}
	for k, label := range b.Ports {
		if slices.Contains(b.Ports[:k], label) {
			p.addf(indexed(path+".ports", k), "the label %q is there twice; leave one out", label)
			continue
		}
		if slices.Contains(taken, label) {
			p.addf(indexed(path+".ports", k), "the label %q is an earlier interface's; leave it out of one of them", label)
			continue
		}
		if port, ok := planPort(r.nomad, indexed(path+".ports", k), label, p); ok {
			i.Ports = append(i.Ports, port)
		}
	}
	return i
}

// planInNetwork has DHCP of a network, if it has any, give the interface its address,
// or give it to no other, and notes whether the network leads out.
func planInNetwork(path string, n domxml.Network, i *vm.Interface, p *problems) {
	i.Isolated = !n.LeadsOut
	reachable := []netip.Prefix{n.Gateway}
	if len(n.Ranges) > 0 {
		i.Network = n.Name
	} else {
		reachable = append(reachable, n.Others...)
	}
	isReachable := func(of netip.Prefix) bool { return of.Contains(i.Address.Addr()) }
	if i.Address.IsValid() && n.Gateway.IsValid() && !slices.ContainsFunc(reachable, isReachable) {
		p.addf(path+".address", "%s is not in %s, the addresses of libvirt network %s", i.Address, n.Gateway.Masked(), n.Name)
	}
}

// holderOf is the device of the host that has an address; "" for none.
func holderOf(r request, addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	for _, l := range r.links {
		if slices.Contains(l.Addrs, addr) {
			return l.Name
		}
	}
	for _, n := range r.facts.Networks {
		if n.Gateway.Addr() == addr {
			return n.Bridge
		}
	}
	return ""
}

// planAddress reads the address that a guest is to take.
func planAddress(path string, b Bridge, i *vm.Interface, p *problems) {
	if b.Address == "" {
		if b.Gateway != "" || len(b.DNS) > 0 {
			p.addf(path+".address", "is missing; gateway and dns go with it, DHCP brings its own")
		}
		return
	}
	address, err := netip.ParsePrefix(b.Address)
	switch {
	case err != nil:
		p.addf(path+".address", "%q is no address with the length of its prefix, as in \"192.0.2.5/24\"", b.Address)
	case !address.Addr().Is4():
		p.addf(path+".address", "%s is not IPv4; others are not supported yet", address)
	case !address.Addr().IsGlobalUnicast():
		p.addf(path+".address", "%s is not the address of one machine", address)
	default:
		i.Address = address
	}
	if b.Gateway != "" {
		i.Gateway = planAddr(path+".gateway", b.Gateway, p)
		if i.Gateway.IsValid() && i.Address.IsValid() && !i.Address.Contains(i.Gateway) {
			p.addf(path+".gateway", "%s is not in %s, the network of the address", i.Gateway, i.Address.Masked())
		}
	}
	for k, server := range b.DNS {
		if addr := planAddr(indexed(path+".dns", k), server, p); addr.IsValid() {
			i.DNS = append(i.DNS, addr)
		}
	}
}

func planAddr(path, text string, p *problems) netip.Addr {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		p.addf(path, "%q is no IP address", text)
	}
	return addr
}

// macvtapModes are libvirt's, the default first.
var macvtapModes = []string{"bridge", "private", "vepa", "passthrough"}

func planMacvtap(r request, path string, m Macvtap, p *problems) vm.Interface {
	i := vm.Interface{Device: m.Device, Mode: m.Mode}
	if i.Mode == "" {
		i.Mode = macvtapModes[0]
	}
	if !slices.Contains(macvtapModes, i.Mode) {
		p.addf(path+".mode", "%q is none of %s", i.Mode, strings.Join(macvtapModes, ", "))
	}
	var devices []string
	for _, l := range r.links {
		devices = append(devices, l.Name)
	}
	switch {
	case m.Device == "":
		p.addf(path+".device", "is missing; the host has %s", strings.Join(devices, ", "))
	case !slices.Contains(devices, m.Device):
		p.addf(path+".device", "the host has no network device %q; it has %s", m.Device, strings.Join(devices, ", "))
	}
	if of := portOf(r.links, m.Device); of != "" {
		p.addf(path+".device", "%q is a port of bridge %q, and takes no macvtap beside that: "+
			"put the interface on the bridge, by bridge { name = %q }", m.Device, of, of)
	}
	return i
}

// portOf is the bridge that a device of the host is a port of; "": none.
func portOf(links []bridge.Link, device string) string {
	for _, l := range links {
		if l.Name == device {
			return l.Bridge
		}
	}
	return ""
}

// planFilter is what the plugin's configuration lets through of an interface.
func planFilter(r request, path string, i vm.Interface, p *problems) vm.Filter {
	f := vm.Filter{Name: r.config.NWFilter, Address: i.Address.Addr()}
	switch at := networkOf(r.facts.Networks, i.Bridge); {
	case f.Name == "":
		return vm.Filter{}
	case i.Device != "":
		p.addf(path+".macvtap", "this client filters what VMs send (nwfilter = %q), which libvirt cannot do for macvtap: "+
			"use a bridge, or a client without the filter", f.Name)
	case i.Network != "":
		f.DHCPServer = r.facts.Networks[at].Gateway.Addr()
	}
	return f
}

// networkOf is which libvirt network a bridge is of; negative: none.
func networkOf(networks []domxml.Network, bridge string) int {
	return slices.IndexFunc(networks, func(n domxml.Network) bool { return bridge != "" && n.Bridge == bridge })
}

// reservedFor is the address that is reserved for an interface; invalid: none.
func reservedFor(networks []domxml.Network, i vm.Interface) netip.Addr {
	for _, n := range networks {
		for _, host := range n.Hosts {
			if n.Name == i.Network && strings.EqualFold(host.MAC, i.MAC) {
				return host.Addr
			}
		}
	}
	return netip.Addr{}
}

// allocatedPorts are those of the task's group.
func allocatedPorts(n *drivers.TaskConfig) structs.AllocatedPorts {
	if n.Resources == nil || n.Resources.Ports == nil {
		return nil
	}
	return *n.Resources.Ports
}

func allocatedLabels(n *drivers.TaskConfig) (labels []string) {
	for _, m := range allocatedPorts(n) {
		labels = append(labels, m.Label)
	}
	return labels
}

func planPort(n *drivers.TaskConfig, path, label string, p *problems) (vm.Port, bool) {
	for _, m := range allocatedPorts(n) {
		if m.Label == label {
			addr, err := netip.ParseAddr(m.HostIP)
			if err != nil || !portmap.Publishable(addr) {
				p.addf(path, "Nomad gave port %q the address %q, and no port of a VM can be published there: "+
					"take a host_network of other addresses", label, m.HostIP)
				return vm.Port{}, false
			}
			to := m.To
			if to <= 0 { // not given: the guest listens on the number that Nomad chose
				to = m.Value
			}
			return vm.Port{Label: label, Host: netip.AddrPortFrom(addr.Unmap(), uint16(m.Value)), Guest: uint16(to)}, true
		}
	}
	known := "it has none: add a block port \"" + label + "\", with to = …, to the group's network block"
	if labels := allocatedLabels(n); len(labels) > 0 {
		known = "it has: " + strings.Join(labels, ", ")
	}
	p.addf(path, "the group has no port %q; %s", label, known)
	return vm.Port{}, false
}

func bridgesOf(r request) string {
	var all []string
	for _, l := range r.links {
		if !l.IsBridge {
			continue
		}
		name := l.Name
		for _, n := range r.facts.Networks {
			if n.Bridge == l.Name {
				name += fmt.Sprintf(" (network %s)", n.Name)
			}
		}
		all = append(all, name)
	}
	if len(all) == 0 {
		return "none; start a network of libvirt's: virsh net-start default"
	}
	return strings.Join(all, ", ")
}
