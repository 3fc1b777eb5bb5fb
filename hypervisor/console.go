package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Console connects somebody to the serial console of a domain that runs: what in
// brings is typed there, and what the guest writes goes to out, until the context or
// the VM ends. One who has it already is disconnected if force says so, else he stays,
// and this is an error. It uses a connection of its own, because a reader that is slow
// holds up all of one.
func (h *Host) Console(ctx context.Context, name string, in io.Reader, out io.Writer, force bool) error {
	conn, err := dial(ctx, h.sockets)
	if err != nil {
		return fmt.Errorf("libvirt at %s cannot be reached, is libvirtd running? %w", h.uri, err)
	}
	defer conn.Close()
	patience := time.AfterFunc(connectTimeout, func() { conn.Close() })
	if err := h.login.to(conn); err != nil {
		return err
	}
	client := libvirt.NewWithDialer(dialed{conn})
	if err := client.ConnectToURI(libvirt.ConnectURI(h.uri)); err != nil {
		return fmt.Errorf("libvirt refuses to open %s: %w", h.uri, err)
	}
	domain, err := client.DomainLookupByName(name)
	if isCode(err, libvirt.ErrNoDomain) {
		err = ErrNoDomain
	}
	if err != nil {
		return fmt.Errorf("opening the console of domain %s: %w", name, err)
	}
	patience.Stop()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var flags uint32
	if force {
		flags = uint32(libvirt.DomainConsoleForce)
	}
	err = client.DomainOpenConsoleBidirectional(domain, nil, in, out, flags)
	if ctx.Err() != nil || errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the console of domain %s: %w", name, err)
	}
	return nil
}
