package driver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// planMAC is the hardware address of an interface: what the job says, or what the
// allocation, the task and the interface's place decide.
func planMAC(r request, index int, path, text string, p *problems) string {
	if text == "" {
		return macOf(r.nomad.AllocID, r.nomad.Name, index)
	}
	mac, err := net.ParseMAC(text)
	const isGroup = 1 // in the first byte
	if err != nil || len(mac) != 6 || mac[0]&isGroup != 0 {
		p.addf(path, "%q is no hardware address of one machine, as in \"52:54:00:12:34:56\"", text)
		return text
	}
	return mac.String()
}

// macOf derives a hardware address from what stays the same over restarts of a
// task in its allocation. 52:54 is how QEMU's addresses begin; the rest is
// wide enough for a network full of VMs.
func macOf(alloc, task string, index int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%d", alloc, task, index))
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3])
}

// refuseTaken refuses a hardware address that another VM of the host has, whoever made
// that: DHCP would give both one address, and what is published for one would lead to
// the other. One that an earlier start of the task has left is removed before.
func refuseTaken(r request, path, mac string, p *problems) {
	for _, other := range r.others {
		if strings.EqualFold(other.MAC, mac) && !isOfTask(other.Owner, r.nomad) {
			p.addf(path, "%s is VM %s's on this host; take another, leave mac out, or remove that VM first", mac, other.Domain)
			return
		}
	}
}

func isOfTask(o vm.Owner, n *drivers.TaskConfig) bool {
	return o.Alloc == n.AllocID && o.Task == n.Name
}

// isReservedByOthers tells whether an address was reserved for an interface by somebody
// else than the driver. Of one that an earlier start of the task has left, its journal
// tells.
func isReservedByOthers(r request, i vm.Interface) bool {
	if !reservedFor(r.facts.Networks, i).IsValid() {
		return false
	}
	for _, other := range r.others {
		if strings.EqualFold(other.MAC, i.MAC) && other.Owner != (vm.Owner{}) {
			return other.Reserved
		}
	}
	return true
}

// othersBeside lists whose the hardware addresses that a job chooses may be: all
// interfaces of domains, and those of VMs that are about to be made beside this one,
// until it is done. Between plugins of several clients that share a libvirt nothing tells
// of the latter: two that start at the same moment both run.
func (d *Driver) othersBeside(ctx context.Context, host libvirtHost, task TaskConfig, cfg *drivers.TaskConfig) (
	others []domxml.Interface, done func(), err error,
) {
	own := chosenMACs(task, cfg)
	if len(own) == 0 {
		return nil, func() {}, nil
	}
	// Noted before it is looked for domains: whoever comes later sees one or the other.
	others, done = d.noteMaking(own)
	defined, err := host.Interfaces(ctx)
	return append(others, defined...), done, err
}

// chosenMACs are the interfaces of a task whose hardware addresses its job chooses.
func chosenMACs(task TaskConfig, cfg *drivers.TaskConfig) (all []domxml.Interface) {
	for _, n := range task.NetworkInterfaces {
		if mac, err := net.ParseMAC(n.MAC); err == nil { // the plan tells of others
			all = append(all, domxml.Interface{MAC: mac.String(), Domain: vmName(cfg.Name, cfg.ID), Owner: owner(cfg)})
		}
	}
	return all
}

// noteMaking notes the interfaces of a VM that is being made, until the function that
// it returns is called. It returns those of others.
func (d *Driver) noteMaking(own []domxml.Interface) (others []domxml.Interface, done func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	others = slices.Clone(d.making)
	d.making = append(d.making, own...)
	return others, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.making = slices.DeleteFunc(d.making, func(i domxml.Interface) bool { return i.Domain == own[0].Domain })
	}
}
