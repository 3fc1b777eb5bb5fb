package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Way is how a guest was asked to shut down.
type Way int

// The ways to ask.
const (
	ByPowerButton Way = iota // ACPI
	ByAgent                  // the QEMU guest agent
)

const (
	// agentPatience is how long a guest's agent has to refuse. One that shuts the
	// guest down answers when that is done, or never: libvirt waits for it.
	agentPatience = 6 * time.Second
	// agentAnswers is when a request to an agent is given up: libvirt does so after
	// a minute by itself.
	agentAnswers = 70 * time.Second
	// MostAgents is how many may be asked at once: each takes a worker of libvirt's,
	// which has twenty by default, for as long as its guest takes to shut down.
	MostAgents = 8
)

// ErrAgentsBusy says that too many agents are being asked already.
var ErrAgentsBusy = errors.New("too many guests' agents are being asked to shut down")

// Shutdown asks the guest to shut down: its agent where it has one that answers,
// which works where nobody listens to a power button; otherwise as PressPowerButton
// does. It does not wait until the guest has done so.
func (h *Host) Shutdown(ctx context.Context, name string) (Way, error) {
	asking, cancel := context.WithTimeout(ctx, agentPatience)
	defer cancel()
	err := h.AskAgent(asking, name)
	switch {
	case err == nil, errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return ByAgent, nil
	case errors.Is(err, ErrNoDomain):
		return ByAgent, err
	}
	return ByPowerButton, h.PressPowerButton(ctx, name)
}

// AskAgent has the guest's agent shut it down, and returns when the guest has, or
// cannot be asked: there is no agent, it does not answer, or too many are being
// asked. It uses a connection of its own, since an agent may never answer.
//
// See virDomainShutdownFlags in https://libvirt.org/html/libvirt-libvirt-domain.html
func (h *Host) AskAgent(ctx context.Context, name string) error {
	select {
	case h.agents <- struct{}{}:
	default:
		return ErrAgentsBusy
	}
	answered := make(chan error, 1)
	go func() {
		defer func() { <-h.agents }()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentAnswers)
		defer cancel()
		answered <- h.apart(ctx, withDomain(name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
			return c.DomainShutdownFlags(d, libvirt.DomainShutdownGuestAgent)
		}))
	}()
	select {
	case err := <-answered:
		if err != nil {
			return fmt.Errorf("asking the agent of domain %s to shut down: %w", name, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// PressPowerButton presses the guest's power button, by ACPI. A guest may not
// listen: one that is booting, for one.
func (h *Host) PressPowerButton(ctx context.Context, name string) error {
	return h.doDomain(ctx, "shutting down domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainShutdownFlags(d, libvirt.DomainShutdownAcpiPowerBtn)
	})
}
