package hypervisortest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// What is asked of guests, and what is noted in their domains.

// Shutdown is heard by guests that run, and not by those that were made deaf.
func (m *Memory) Shutdown(ctx context.Context, name string) (hypervisor.Way, error) {
	return hypervisor.ByPowerButton, m.PressPowerButton(ctx, name)
}

// AskAgent finds none.
func (m *Memory) AskAgent(_ context.Context, name string) error {
	return m.on("AskAgent", name, func(*domain) error { return errors.New("the guest has no agent") })
}

// AgentAddresses tells what Address was told.
func (m *Memory) AgentAddresses(_ context.Context, name string) (all map[string][]netip.Addr, err error) {
	err = m.on("AgentAddresses", name, func(d *domain) error {
		if d.addresses == nil {
			return errors.New("the guest has no agent")
		}
		all = maps.Clone(d.addresses)
		return nil
	})
	return all, err
}

// PressPowerButton is Shutdown, of guests that all have no agent.
func (m *Memory) PressPowerButton(_ context.Context, name string) error {
	return m.on("Shutdown", name, func(d *domain) error {
		if !d.executes {
			return fmt.Errorf("shutting down domain %s: it is not running", name)
		}
		if d.guest == hypervisor.GuestRuns && !d.deaf {
			m.end(name, d, vm.Exit{})
		}
		return nil
	})
}

// NoteStop is for VMs that execute.
func (m *Memory) NoteStop(_ context.Context, name string, by time.Time) error {
	return m.on("NoteStop", name, func(d *domain) error {
		d.stopBy = by
		return nil
	})
}

// StopNoted tells what NoteStop was told.
func (m *Memory) StopNoted(_ context.Context, name string) (by time.Time, err error) {
	err = m.on("StopNoted", name, func(d *domain) error {
		by = d.stopBy
		return nil
	})
	return by, err
}

// NotePause is for VMs that execute.
func (m *Memory) NotePause(_ context.Context, name string, paused bool) error {
	return m.on("NotePause", name, func(d *domain) error {
		d.paused = paused
		return nil
	})
}

// PauseNoted tells what NotePause was told last.
func (m *Memory) PauseNoted(_ context.Context, name string) (paused bool, err error) {
	err = m.on("PauseNoted", name, func(d *domain) error {
		paused = d.paused
		return nil
	})
	return paused, err
}

// NoteAddresses is for VMs that execute.
func (m *Memory) NoteAddresses(_ context.Context, name string, found map[string]netip.Addr) error {
	return m.on("NoteAddresses", name, func(d *domain) error {
		d.noted = maps.Clone(found)
		return nil
	})
}

// AddressesNoted tells what NoteAddresses was told.
func (m *Memory) AddressesNoted(_ context.Context, name string) (found map[string]netip.Addr, err error) {
	err = m.on("AddressesNoted", name, func(d *domain) error {
		found = d.noted
		return nil
	})
	return found, err
}
