package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/digitalocean/go-libvirt"
)

// Console connects somebody to the serial console of a domain that runs: what in
// brings is typed there, and what the guest writes goes to out, until the context or
// the VM ends. One who has it already is disconnected if force says so, else he stays,
// and this is an error. It uses a connection of its own, because a reader that is slow
// holds up all of one.
func (h *Host) Console(ctx context.Context, name string, in io.Reader, out io.Writer, force bool) error {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	client, _, err := h.open(ctx, conn, toNothing)
	if err != nil {
		return err
	}
	domain, err := client.DomainLookupByName(name)
	if isCode(err, libvirt.ErrNoDomain) {
		err = ErrNoDomain
	}
	if err != nil {
		return fmt.Errorf("opening the console of domain %s: %w", name, err)
	}
	defer context.AfterFunc(ctx, func() { takeLeave(client, conn) })()
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
