package hypervisortest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// What a test does to a hypervisor in memory that no caller of it can: the other
// hands on the host, the guest's own, and what fails.

// GoAway has all calls fail, as those to a libvirt that was stopped. VMs go on.
func (m *Memory) GoAway() { m.setAway(true) }

// ComeBack ends that.
func (m *Memory) ComeBack() { m.setAway(false) }

func (m *Memory) setAway(away bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = away
	close(m.changed)
	m.changed = make(chan struct{})
	m.wake("")
}

// Fail has a method answer with an error, "Start" for one; nil ends that.
func (m *Memory) Fail(method string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failures[method] = err
}

// Deafen has a guest not hear that it is asked to shut down, for this run of it.
func (m *Memory) Deafen(name string) error {
	return m.hand(name, func(d *domain) { d.deaf = true })
}

// PowerOff has a guest turn itself off.
func (m *Memory) PowerOff(name string) error {
	return m.hand(name, func(d *domain) { m.end(name, d, vm.Exit{}) })
}

// Kill is another hand's destruction of a VM.
func (m *Memory) Kill(name string) error {
	return m.hand(name, func(d *domain) { m.end(name, d, destroyed()) })
}

// Crash ends a VM as the end of its QEMU does.
func (m *Memory) Crash(name string) error {
	return m.hand(name, func(d *domain) { m.end(name, d, vm.Exit{Code: exitFailed, Err: errors.New("QEMU crashed")}) })
}

// Halt pauses a guest for an error of a disk.
func (m *Memory) Halt(name string, failed hypervisor.DiskError) error {
	return m.hand(name, func(d *domain) {
		d.guest, d.diskError = hypervisor.GuestHalted, failed
		m.wake(name)
	})
}

// Address has the agent of a guest tell its addresses, by hardware address.
func (m *Memory) Address(name string, addresses map[string][]netip.Addr) error {
	return m.hand(name, func(d *domain) { d.addresses = addresses })
}

// GiveBack ends a lease, as a DHCP server does that is told to. While a VM has it that
// executes, this fails: its guest would take the lease anew.
func (m *Memory) GiveBack(l vm.Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, d := range m.domains {
		if d.executes && slices.ContainsFunc(d.interfaces, func(i domxml.Interface) bool { return strings.EqualFold(i.MAC, l.MAC) }) {
			return fmt.Errorf("VM %s has the lease of %s, and executes", name, l.Addr)
		}
	}
	maps.DeleteFunc(m.leased, func(of reservation, addr netip.Addr) bool { return strings.EqualFold(of.mac, l.MAC) && addr == l.Addr })
	return nil
}

// Edit is another hand's change of what is written of a VM, whether it executes or not.
func (m *Memory) Edit(name, metadata string) error {
	return m.on("Edit", name, func(d *domain) error {
		d.metadata = metadata
		return nil
	})
}

// hand does something to a VM that executes, also while nobody can ask for it.
func (m *Memory) hand(name string, do func(*domain)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, is := m.domains[name]
	if !is || !d.executes {
		return fmt.Errorf("there is no VM %s that executes", name)
	}
	do(d)
	return nil
}

// Left lists what there is: domains by their names, reservations and leases by their
// hardware addresses.
func (m *Memory) Left() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := slices.Sorted(maps.Keys(m.domains))
	for of := range m.reserved {
		all = append(all, of.mac)
	}
	for of := range m.leased {
		all = append(all, "lease of "+of.mac)
	}
	return all
}
