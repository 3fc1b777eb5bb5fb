package hypervisor

import (
	"context"
	"errors"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
)

// Way is how a guest was asked to shut down.
type Way int

// The ways to ask.
const (
	ByPowerButton Way = iota // ACPI
	ByAgent                  // the QEMU guest agent
)

// agentPatience is how long a guest's agent has to refuse. One that shuts the
// guest down answers when that is done, or never: libvirt waits for it.
const agentPatience = 6 * time.Second

// Shutdown asks the guest to shut down: its agent where it has one that answers,
// which works where nobody listens to a power button; otherwise as PressPowerButton
// does. It does not wait until the guest has done so.
//
// See virDomainShutdownFlags in https://libvirt.org/html/libvirt-libvirt-domain.html
func (h *Host) Shutdown(ctx context.Context, name string) (Way, error) {
	asking, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	err := h.shutdown(asking, name, libvirt.DomainShutdownGuestAgent)
	var refused libvirt.Error
	if errors.As(err, &refused) && !errors.Is(err, ErrNoDomain) {
		return ByPowerButton, h.PressPowerButton(ctx, name)
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = nil
	}
	return ByAgent, err
}

// PressPowerButton presses the guest's power button, by ACPI. A guest may not
// listen: one that is booting, for one.
func (h *Host) PressPowerButton(ctx context.Context, name string) error {
	return h.shutdown(ctx, name, libvirt.DomainShutdownAcpiPowerBtn)
}

func (h *Host) shutdown(ctx context.Context, name string, by libvirt.DomainShutdownFlagValues) error {
	return h.doDomain(ctx, "shutting down domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainShutdownFlags(d, by)
	})
}

// NoteStop writes into a domain that runs that it is being stopped, and until when
// it has to have shut down: for whoever has to go on with that.
func (h *Host) NoteStop(ctx context.Context, name string, by time.Time) error {
	note, err := domxml.StopNote(by)
	if err != nil {
		return err
	}
	return h.doDomain(ctx, "noting the stop of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainSetMetadata(d, int32(libvirt.DomainMetadataElement), libvirt.OptString{note},
			libvirt.OptString{"stop"}, libvirt.OptString{domxml.StopURI}, libvirt.DomainAffectLive)
	})
}

// StopNoted returns until when a domain has to have shut down; the zero time if it
// is not being stopped.
func (h *Host) StopNoted(ctx context.Context, name string) (time.Time, error) {
	note, err := onDomain(ctx, h, "reading the metadata of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (string, error) {
		return c.DomainGetMetadata(d, int32(libvirt.DomainMetadataElement),
			libvirt.OptString{domxml.StopURI}, libvirt.DomainAffectCurrent)
	})
	if isCode(err, libvirt.ErrNoDomainMetadata) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return domxml.ParseStopNote(note)
}
