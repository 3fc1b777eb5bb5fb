package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// ErrNoDomain says that libvirt has no domain of that name.
var ErrNoDomain = errors.New("no such domain")

// Define makes the domain of a VM known to libvirt, without starting it. From
// then on Journal tells what belongs to it.
func (h *Host) Define(ctx context.Context, s *vm.Spec) error {
	document, err := domxml.Domain(s)
	if err != nil {
		return err
	}
	return do(ctx, h, "defining domain "+s.Name, func(c *libvirt.Libvirt) error {
		_, err := c.DomainDefineXMLFlags(document, 0)
		return err
	})
}

// Start starts the QEMU of a domain that is defined. The guest does not run
// before Resume.
func (h *Host) Start(ctx context.Context, name string) error {
	return slowly(ctx, h, h.starts, "starting domain "+name, withDomain(name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		_, err := c.DomainCreateWithFlags(d, uint32(libvirt.DomainStartPaused))
		return err
	}))
}

// Resume lets the guest of a domain run, and wakes one that has put itself to sleep.
func (h *Host) Resume(ctx context.Context, name string) error {
	return h.doDomain(ctx, "resuming domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		err := c.DomainResume(d)
		if err != nil && c.DomainPmWakeup(d, 0) == nil {
			return nil
		}
		return err
	})
}

// Suspend pauses the guest of a domain, which Resume lets run again.
func (h *Host) Suspend(ctx context.Context, name string) error {
	return h.doDomain(ctx, "suspending domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainSuspend(d)
	})
}

// Destroy ends a domain's QEMU. A domain that does not run, or that libvirt does
// not know, is no error.
func (h *Host) Destroy(ctx context.Context, name string) error {
	err := slowly(ctx, h, h.ends, "destroying domain "+name, withDomain(name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainDestroyFlags(d, libvirt.DomainDestroyDefault)
	}))
	if isCode(err, libvirt.ErrOperationInvalid) || errors.Is(err, ErrNoDomain) {
		return nil
	}
	return err
}

// Undefine makes libvirt forget a domain that does not run. A domain that
// libvirt does not know is no error.
func (h *Host) Undefine(ctx context.Context, name string) error {
	err := h.doDomain(ctx, "undefining domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
		return c.DomainUndefineFlags(d, libvirt.DomainUndefineManagedSave|libvirt.DomainUndefineSnapshotsMetadata|
			libvirt.DomainUndefineCheckpointsMetadata|libvirt.DomainUndefineNvram)
	})
	if errors.Is(err, ErrNoDomain) {
		return nil
	}
	return err
}

// Journal returns what the driver wrote into a domain's metadata when it
// defined it; ErrNoDomain when there is no such domain, or it is not ours, domxml.ErrBadJournal
// when it cannot be read. A domain that runs still has it when somebody has undefined it.
func (h *Host) Journal(ctx context.Context, name string) (domxml.Journal, error) {
	document, err := onDomain(ctx, h, "reading the metadata of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (string, error) {
		return c.DomainGetMetadata(d, int32(libvirt.DomainMetadataElement),
			libvirt.OptString{domxml.MetadataURI}, libvirt.DomainAffectCurrent)
	})
	if isCode(err, libvirt.ErrNoDomainMetadata) {
		return domxml.Journal{}, fmt.Errorf("domain %s is not of this driver: %w", name, ErrNoDomain)
	}
	if err != nil {
		return domxml.Journal{}, err
	}
	journal, err := domxml.ParseJournal(document)
	if err != nil {
		return domxml.Journal{}, fmt.Errorf("reading the metadata of domain %s: %w", name, err)
	}
	return journal, nil
}

// Taps lists the interfaces of a domain that runs which are on bridges.
func (h *Host) Taps(ctx context.Context, name string) ([]vm.Tap, error) {
	document, err := onDomain(ctx, h, "reading the interfaces of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (string, error) {
		return c.DomainGetXMLDesc(d, 0)
	})
	if err != nil {
		return nil, err
	}
	return domxml.ParseTaps(document)
}

// Owned lists the domains of this driver that belong to somebody, of those whose
// names may be theirs: only their metadata is read. It tells apart those of which it
// cannot be read whose they are, by name, with the reason.
func (h *Host) Owned(ctx context.Context, maybe func(name string) bool, by func(vm.Owner) bool,
) (owned []string, unreadable map[string]error, err error) {
	domains, err := h.allDomains(ctx)
	if err != nil {
		return nil, nil, err
	}
	unreadable = make(map[string]error)
	for _, d := range domains {
		if !maybe(d.Name) {
			continue
		}
		switch j, err := h.Journal(ctx, d.Name); {
		case errors.Is(err, ErrNoDomain):
		case errors.Is(err, domxml.ErrBadJournal):
			unreadable[d.Name] = err
		case err != nil:
			return nil, nil, err
		case by(j.Owner):
			owned = append(owned, d.Name)
		}
	}
	return owned, unreadable, nil
}

// Interfaces lists the network interfaces of all domains of the host, whosever they
// are, whether they run or not.
func (h *Host) Interfaces(ctx context.Context) ([]domxml.Interface, error) {
	domains, err := h.allDomains(ctx)
	if err != nil {
		return nil, err
	}
	var all []domxml.Interface
	for _, d := range domains {
		document, err := call(ctx, h, "reading the interfaces of domain "+d.Name, func(c *libvirt.Libvirt) (string, error) {
			return c.DomainGetXMLDesc(d, 0)
		})
		if isCode(err, libvirt.ErrNoDomain) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		of, err := domxml.ParseInterfaces(document)
		if err != nil {
			return nil, fmt.Errorf("reading the interfaces of domain %s: %w", d.Name, err)
		}
		all = append(all, of...)
	}
	return all, nil
}

func (h *Host) allDomains(ctx context.Context) ([]libvirt.Domain, error) {
	return call(ctx, h, "listing domains", func(c *libvirt.Libvirt) ([]libvirt.Domain, error) {
		all, _, err := c.ConnectListAllDomains(1, 0)
		return all, err
	})
}

// WaitEnd returns how a domain ended, as soon as it has: it follows libvirt's
// events, and asks for the state now and whenever there was news. It outlasts
// libvirt's absence; its error is the context's alone.
//
// As long as the domain executes, each state that was read is shown to look. It
// returns how soon it wants to see the next one if there is no news; 0: it need
// not.
func (h *Host) WaitEnd(ctx context.Context, name string, look func(context.Context, Guest) time.Duration) (vm.Exit, error) {
	news := make(chan struct{}, 1)
	defer h.watch(name, news)()
	for {
		s, err := h.state(ctx, name)
		if exit, ended := exitFor(s, err); ended {
			return h.lookInto(ctx, name, s, exit), nil
		}
		h.sees(news, s, err)
		var again <-chan time.Time
		if err == nil {
			if soon := look(ctx, s.guest()); soon > 0 {
				again = time.After(soon)
			}
		}
		select {
		case <-ctx.Done():
			return vm.Exit{}, ctx.Err()
		case <-news:
		case <-again:
		}
	}
}

// lookInto finds out more about an end than libvirt says, and has a domain go that
// is there only so that it can be seen that its guest has panicked.
func (h *Host) lookInto(ctx context.Context, name string, s domainState, exit vm.Exit) vm.Exit {
	switch {
	case s.state == libvirt.DomainCrashed:
		_ = h.Destroy(ctx, name) // otherwise it goes with the task
	case exit.Err == nil && h.wasSignalled(name):
		// libvirt calls that a shutdown, as if the guest had done it.
		exit.Code, exit.Err = exitFailed, errors.New("QEMU was ended by a signal of the host's (kill, or the host's shutdown)")
	case errors.Is(exit.Err, errCrashed):
		return crashed(exit, lastWords(ctx, name), killedForMemory(name))
	}
	return exit
}

func (h *Host) wasSignalled(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.signalled[name]
}

// Running tells whether a domain has a QEMU; ErrNoDomain when there is no such
// domain.
func (h *Host) Running(ctx context.Context, name string) (bool, error) {
	s, err := h.state(ctx, name)
	return err == nil && s.executes(), err
}

// domainState is a state of a domain, and libvirt's reason for it.
type domainState struct {
	state  libvirt.DomainState
	reason int32
}

func (s domainState) executes() bool {
	return s.state != libvirt.DomainShutoff && s.state != libvirt.DomainCrashed
}

func (h *Host) state(ctx context.Context, name string) (domainState, error) {
	return onDomain(ctx, h, "reading the state of domain", name, func(c *libvirt.Libvirt, d libvirt.Domain) (domainState, error) {
		state, reason, err := c.DomainGetState(d, 0)
		return domainState{libvirt.DomainState(state), reason}, err
	})
}

// onDomain calls fn with the domain of a name, or returns ErrNoDomain.
func onDomain[T any](ctx context.Context, h *Host, asked, name string, fn func(*libvirt.Libvirt, libvirt.Domain) (T, error)) (T, error) {
	return call(ctx, h, asked+" "+name, func(c *libvirt.Libvirt) (value T, err error) {
		err = withDomain(name, func(c *libvirt.Libvirt, d libvirt.Domain) error {
			value, err = fn(c, d)
			return err
		})(c)
		return value, err
	})
}

// withDomain is fn with the domain of a name, or ErrNoDomain.
func withDomain(name string, fn func(*libvirt.Libvirt, libvirt.Domain) error) func(*libvirt.Libvirt) error {
	return func(c *libvirt.Libvirt) error {
		d, err := c.DomainLookupByName(name)
		if err == nil {
			err = fn(c, d)
		}
		if isCode(err, libvirt.ErrNoDomain) {
			return ErrNoDomain
		}
		return err
	}
}

// doDomain has libvirt change a domain, which waits for its QEMU. That may hang: then it
// holds up changes of this domain alone.
func (h *Host) doDomain(ctx context.Context, asked, name string, fn func(*libvirt.Libvirt, libvirt.Domain) error) error {
	asked += " " + name
	over, err := turn(ctx, &h.domains, name)
	if err != nil {
		return fmt.Errorf("%s: libvirt still does what was asked of it before: %w", asked, err)
	}
	defer over()
	return slowly(ctx, h, nil, asked, withDomain(name, fn))
}
