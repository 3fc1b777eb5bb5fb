package hypervisor

import (
	"context"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Guest tells what the guest of a domain does that has a QEMU.
type Guest int

// What a guest does.
const (
	GuestOther Guest = iota // somebody paused it, or it is not decided yet
	GuestRuns
	GuestHalted // QEMU paused it because a disk had an error
	GuestEnds   // it has shut down, and QEMU writes its disks back
	GuestSleeps // it has put itself to sleep
)

// guest reads a state of a domain that executes. The reason tells an error of a
// disk from somebody's will; libvirt asks QEMU for it again when it restarts.
//
// See virDomainPausedReason in https://libvirt.org/html/libvirt-libvirt-domain.html
func (s domainState) guest() Guest {
	switch {
	case s.state == libvirt.DomainRunning:
		return GuestRuns
	case s.state == libvirt.DomainPaused && libvirt.DomainPausedReason(s.reason) == libvirt.DomainPausedIoerror:
		return GuestHalted
	case s.state == libvirt.DomainShutdown:
		return GuestEnds
	case s.state == libvirt.DomainPmsuspended:
		return GuestSleeps
	default:
		return GuestOther
	}
}

// Guest tells what the guest of a domain does; GuestOther also where there is no
// QEMU.
func (h *Host) Guest(ctx context.Context, name string) (Guest, error) {
	s, err := h.state(ctx, name)
	return s.guest(), err
}

// DiskError is an error of a disk that QEMU paused a guest for. No request is
// lost: QEMU repeats those that failed when the guest is resumed.
type DiskError struct {
	// What is known of the disk: its path (in Ceph, the image's name, with or
	// without the pool's), or else its target, "vda". Neither: libvirt does not tell.
	Path, Disk string
	Full       bool // there was no room for what was written
}

// DiskError returns the error that halted a domain's guest. If the connection is
// younger than the error, and the guest was halted several times, it may be an
// earlier one.
//
// See virConnectDomainEventIOErrorReasonCallback and virDomainGetDiskErrors in
// https://libvirt.org/html/libvirt-libvirt-domain.html, and werror in qemu(1).
func (h *Host) DiskError(ctx context.Context, name string) (DiskError, error) {
	h.mu.Lock()
	told, ok := h.diskErrors[name]
	h.mu.Unlock()
	if ok {
		return told, nil
	}
	return onDomain(ctx, h, "reading the disk errors of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (DiskError, error) {
		// QEMU keeps the first error of each disk for good: its "cont" forgets those
		// of drives that libvirt does not make.
		errs, code, err := c.DomainGetDiskErrors(d, 1, 0)
		if err != nil || len(errs) == 0 {
			return DiskError{}, err
		}
		// The library does not read the errors' codes, which are in a field that is
		// not exported: the number of errors it returns is what comes next, the code
		// of the first. Of more than one it could not even read the names.
		return DiskError{Disk: errs[0].Disk, Full: code == int32(libvirt.DomainDiskErrorNoSpace)}, nil
	})
}

// noteDiskError keeps what libvirt tells of an error, and wakes who waits for
// news of the domain: its state is that after the error.
func (h *Host) noteDiskError(event any) {
	e, ok := event.(*libvirt.DomainEventCallbackIOErrorReasonMsg)
	if !ok || libvirt.DomainEventIOErrorAction(e.Msg.Action) != libvirt.DomainEventIoErrorPause {
		return // the guest was told of it
	}
	h.mu.Lock()
	h.diskErrors[e.Msg.Dom.Name] = DiskError{Path: e.Msg.SrcPath, Full: e.Msg.Reason == noSpace}
	h.mu.Unlock()
	h.wake(e.Msg.Dom.Name)
}

// noSpace is libvirt's reason for an error of a disk that had no room.
const noSpace = "enospc"

// noteLifecycle wakes who waits for news of a domain.
func (h *Host) noteLifecycle(e libvirt.DomainEventLifecycleMsg) {
	name := e.Dom.Name
	switch libvirt.DomainEventType(e.Event) {
	case libvirt.DomainEventStarted:
		h.mu.Lock()
		delete(h.signalled, name)
		h.mu.Unlock()
	case libvirt.DomainEventShutdown:
		if libvirt.DomainEventShutdownDetailType(e.Detail) == libvirt.DomainEventShutdownHost {
			h.mu.Lock()
			h.signalled[name] = true
			h.mu.Unlock()
		}
	case libvirt.DomainEventStopped:
		h.mu.Lock()
		delete(h.diskErrors, name)
		h.mu.Unlock()
	case libvirt.DomainEventSuspended:
		if libvirt.DomainEventSuspendedDetailType(e.Detail) == libvirt.DomainEventSuspendedIoerror {
			// libvirt has told of the error before, and it is on its way through the
			// library still. There is none if libvirt was not there to see it.
			time.AfterFunc(overtakenWithin, func() { h.wake(name) })
			return
		}
	}
	h.wake(name)
}

// overtakenWithin is how long an event of libvirt's may be behind a later one of
// another kind.
const overtakenWithin = 200 * time.Millisecond
