package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
)

// ErrBadNote says that a note is there and cannot be read: somebody has edited it.
var ErrBadNote = errors.New("the note cannot be read")

// NoteStop writes into a domain that runs that it is being stopped, and until when
// it has to have shut down: for whoever has to go on with that.
func (h *Host) NoteStop(ctx context.Context, name string, by time.Time) error {
	note, err := domxml.StopNote(by)
	if err != nil {
		return err
	}
	return h.note(ctx, "noting the stop of domain", name, "stop", domxml.StopURI, note)
}

// StopNoted returns until when a domain has to have shut down; the zero time if it
// is not being stopped.
func (h *Host) StopNoted(ctx context.Context, name string) (time.Time, error) {
	note, err := h.noted(ctx, name, domxml.StopURI)
	if note == "" || err != nil {
		return time.Time{}, err
	}
	return domxml.ParseStopNote(note)
}

// NotePause writes into a domain that runs that its guest is paused by Nomad's will,
// or takes that note away.
func (h *Host) NotePause(ctx context.Context, name string, paused bool) error {
	note := "" // libvirt removes what is to be nothing
	if paused {
		note = domxml.PauseNote
	}
	return h.note(ctx, "noting the pause of domain", name, "pause", domxml.PauseURI, note)
}

// PauseNoted tells whether NotePause has noted that the guest of a domain is paused.
func (h *Host) PauseNoted(ctx context.Context, name string) (bool, error) {
	note, err := h.noted(ctx, name, domxml.PauseURI)
	return note != "", err
}

// NoteAddresses writes into a domain that runs which addresses its guest was found
// to have, by the hardware addresses of its interfaces, in place of what was noted
// before.
func (h *Host) NoteAddresses(ctx context.Context, name string, found map[string]netip.Addr) error {
	note, err := domxml.AddressNote(found)
	if err != nil {
		return err
	}
	return h.note(ctx, "noting the addresses of domain", name, "address", domxml.AddressURI, note)
}

// AddressesNoted returns what NoteAddresses has noted; none if it has not. It is
// ErrBadNote where that is something else.
func (h *Host) AddressesNoted(ctx context.Context, name string) (map[string]netip.Addr, error) {
	note, err := h.noted(ctx, name, domxml.AddressURI)
	if note == "" || err != nil {
		return nil, err
	}
	found, err := domxml.ParseAddressNote(note)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadNote, err)
	}
	return found, nil
}

// note writes a note; "" takes it away.
func (h *Host) note(ctx context.Context, doing, name, key, uri, note string) error {
	written := libvirt.OptString{}
	if note != "" {
		written = libvirt.OptString{note}
	}
	return h.doDomain(ctx, doing, name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainSetMetadata(d, int32(libvirt.DomainMetadataElement), written,
			libvirt.OptString{key}, libvirt.OptString{uri}, libvirt.DomainAffectLive)
	})
}

// noted is "" where nothing is noted.
func (h *Host) noted(ctx context.Context, name, uri string) (string, error) {
	note, err := onDomain(ctx, h, "reading the metadata of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (string, error) {
		return c.DomainGetMetadata(d, int32(libvirt.DomainMetadataElement), libvirt.OptString{uri}, libvirt.DomainAffectCurrent)
	})
	if isCode(err, libvirt.ErrNoDomainMetadata) {
		return "", nil
	}
	return note, err
}
