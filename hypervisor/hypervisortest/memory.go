// Package hypervisortest is for tests: Memory is a hypervisor without libvirt, and
// TestHypervisor is the contract that it and hypervisor.Host both keep. Relay
// stands between a Host and libvirt, and counts what is asked.
package hypervisortest

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Memory is a hypervisor in memory. Its guests boot nothing, and turn themselves
// off as soon as they are asked to; its volumes are small files. Its methods may
// be called concurrently, and those of hypervisor.Host do what they do there.
type Memory struct {
	mu       sync.Mutex // guards the fields below
	away     bool
	failures map[string]error           // by method: what it answers
	changed  chan struct{}              // closed when it goes away or comes back
	domains  map[string]*domain         // by name
	watches  map[chan<- struct{}]string // who waits for news of which domain
	pools    map[string]string          // directories, by name
	reserved map[reservation]netip.Addr // by network and hardware address
	leased   map[reservation]netip.Addr // the same
}

// NewMemory returns a hypervisor without VMs and pools. It has one network,
// "default".
func NewMemory() *Memory {
	return &Memory{
		failures: make(map[string]error),
		changed:  make(chan struct{}),
		domains:  make(map[string]*domain),
		watches:  make(map[chan<- struct{}]string),
		pools:    make(map[string]string),
		reserved: make(map[reservation]netip.Addr),
		leased:   make(map[reservation]netip.Addr),
	}
}

// domain is a VM as a hypervisor knows it.
type domain struct {
	metadata   string // as it is in the domain's XML
	memory     vm.Bytes
	bridges    []string // of its interfaces
	interfaces []domxml.Interface
	persistent bool // not undefined

	executes  bool
	guest     hypervisor.Guest        // while it executes
	addresses map[string][]netip.Addr // that its agent tells; nil: it has none
	deaf      bool                    // the guest does not hear that it is asked to shut down
	diskError hypervisor.DiskError
	began     time.Time
	stopBy    time.Time
	paused    bool                  // it is noted that Nomad has it paused
	noted     map[string]netip.Addr // what its addresses are
	exit      vm.Exit               // when it does not
}

// errAway is the answer of a hypervisor that has gone away.
var errAway = errors.New("the hypervisor in memory is away")

// refusal is why a method does not do what it is asked for, if it does not.
func (m *Memory) refusal(method string) error {
	if m.away {
		return errAway
	}
	return m.failures[method]
}

// on does something to a domain that there is.
func (m *Memory) on(method, name string, do func(*domain) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal(method); err != nil {
		return fmt.Errorf("%s of domain %s: %w", method, name, err)
	}
	d, is := m.domains[name]
	if !is {
		return fmt.Errorf("%s of domain %s: %w", method, name, hypervisor.ErrNoDomain)
	}
	return do(d)
}

// wake tells those who wait for news of a domain; "" is news of all of them.
func (m *Memory) wake(name string) {
	for news, of := range m.watches {
		if name != "" && name != of {
			continue
		}
		select {
		case news <- struct{}{}:
		default: // it has not read the last one yet
		}
	}
}

// end is what becomes of a domain that does not execute any more.
func (m *Memory) end(name string, d *domain, exit vm.Exit) {
	exit.EndedAt = time.Now()
	d.executes, d.exit, d.diskError = false, exit, hypervisor.DiskError{}
	if !d.persistent {
		delete(m.domains, name)
	}
	m.wake(name)
}

const (
	exitFailed = 1
	sigkill    = 9
	exitKilled = 128 + sigkill
)

func destroyed() vm.Exit {
	return vm.Exit{Code: exitKilled, Signal: sigkill, Err: errors.New("the VM was destroyed by another hand than Nomad's")}
}

// Define refuses a name that there is.
func (m *Memory) Define(_ context.Context, s *vm.Spec) error {
	document, err := domxml.Domain(s)
	if err != nil {
		return err
	}
	var written struct {
		Metadata struct {
			Content string `xml:",innerxml"`
		} `xml:"metadata"`
	}
	if err := xml.Unmarshal([]byte(document), &written); err != nil {
		return err
	}
	interfaces, err := domxml.ParseInterfaces(document)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Define"); err != nil {
		return fmt.Errorf("defining domain %s: %w", s.Name, err)
	}
	if _, is := m.domains[s.Name]; is {
		return fmt.Errorf("defining domain %s: it already exists", s.Name)
	}
	var bridges []string
	for _, i := range s.Interfaces {
		bridges = append(bridges, i.Bridge)
	}
	m.domains[s.Name] = &domain{
		bridges:    bridges,
		interfaces: interfaces,
		metadata:   written.Metadata.Content,
		memory:     s.Memory,
		persistent: true,
		exit:       vm.Exit{Code: exitFailed, Err: errors.New("the VM has not run")},
	}
	return nil
}

// Undefine leaves a domain that executes there until it ends.
func (m *Memory) Undefine(_ context.Context, name string) error {
	err := m.on("Undefine", name, func(d *domain) error {
		d.persistent = false
		if !d.executes {
			delete(m.domains, name)
		}
		return nil
	})
	if errors.Is(err, hypervisor.ErrNoDomain) {
		return nil
	}
	return err
}

// Journal reads what Define wrote.
func (m *Memory) Journal(_ context.Context, name string) (j domxml.Journal, err error) {
	err = m.on("Journal", name, func(d *domain) (err error) {
		if j, err = domxml.ParseJournal(d.metadata); err != nil {
			err = fmt.Errorf("reading the metadata of domain %s: %w", name, err)
		}
		return err
	})
	return j, err
}

// Owned reads the journals of those that may be meant.
func (m *Memory) Owned(ctx context.Context, maybe func(name string) bool, by func(vm.Owner) bool,
) (owned []string, unreadable map[string]error, err error) {
	m.mu.Lock()
	err = m.refusal("Owned")
	names := slices.Sorted(maps.Keys(m.domains))
	m.mu.Unlock()
	if err != nil {
		return nil, nil, fmt.Errorf("listing domains: %w", err)
	}
	unreadable = make(map[string]error)
	for _, name := range names {
		if !maybe(name) {
			continue
		}
		switch j, err := m.Journal(ctx, name); {
		case errors.Is(err, hypervisor.ErrNoDomain): // it went in between
		case errors.Is(err, domxml.ErrBadJournal):
			unreadable[name] = err
		case err != nil:
			return nil, nil, err
		case by(j.Owner):
			owned = append(owned, name)
		}
	}
	return owned, unreadable, nil
}

// Interfaces are those that Define was told of.
func (m *Memory) Interfaces(context.Context) (all []domxml.Interface, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Interfaces"); err != nil {
		return nil, fmt.Errorf("listing domains: %w", err)
	}
	for _, d := range m.domains {
		all = append(all, d.interfaces...)
	}
	return all, nil
}

// Taps are numbered by the name of the VM.
func (m *Memory) Taps(_ context.Context, name string) (taps []vm.Tap, err error) {
	err = m.on("Taps", name, func(d *domain) error {
		for i, bridge := range d.bridges {
			taps = append(taps, vm.Tap{Device: fmt.Sprintf("%s-%d", name, i), Bridge: bridge})
		}
		return nil
	})
	return taps, err
}

// Start has the guest paused.
func (m *Memory) Start(_ context.Context, name string) error {
	return m.on("Start", name, func(d *domain) error {
		if d.executes {
			return fmt.Errorf("starting domain %s: it is already running", name)
		}
		d.executes, d.guest, d.deaf, d.began = true, hypervisor.GuestOther, false, time.Now()
		m.wake(name)
		return nil
	})
}

// Resume is for guests that do not run.
func (m *Memory) Resume(_ context.Context, name string) error {
	return m.on("Resume", name, func(d *domain) error {
		if !d.executes || d.guest == hypervisor.GuestRuns {
			return fmt.Errorf("resuming domain %s: it is not paused", name)
		}
		d.guest, d.diskError = hypervisor.GuestRuns, hypervisor.DiskError{}
		m.lease(d)
		m.wake(name)
		return nil
	})
}

// Suspend is for VMs that execute.
func (m *Memory) Suspend(_ context.Context, name string) error {
	return m.on("Suspend", name, func(d *domain) error {
		if !d.executes {
			return fmt.Errorf("suspending domain %s: it is not running", name)
		}
		d.guest = hypervisor.GuestOther
		m.wake(name)
		return nil
	})
}

// SetCPUShares gives all VMs the same.
func (m *Memory) SetCPUShares(_ context.Context, name string, _ uint64) error {
	return m.on("SetCPUShares", name, func(*domain) error { return nil })
}

// Destroy is for nothing where there is nothing.
func (m *Memory) Destroy(_ context.Context, name string) error {
	err := m.on("Destroy", name, func(d *domain) error {
		if d.executes {
			m.end(name, d, destroyed())
		}
		return nil
	})
	if errors.Is(err, hypervisor.ErrNoDomain) {
		return nil
	}
	return err
}

// Running tells whether a domain executes.
func (m *Memory) Running(_ context.Context, name string) (is bool, err error) {
	err = m.on("Running", name, func(d *domain) error {
		is = d.executes
		return nil
	})
	return is, err
}

// Guest tells what the guest does.
func (m *Memory) Guest(_ context.Context, name string) (does hypervisor.Guest, err error) {
	err = m.on("Guest", name, func(d *domain) error {
		if d.executes {
			does = d.guest
		}
		return nil
	})
	return does, err
}

// DiskError tells what Halt was told.
func (m *Memory) DiskError(_ context.Context, name string) (failed hypervisor.DiskError, err error) {
	err = m.on("DiskError", name, func(d *domain) error {
		failed = d.diskError
		return nil
	})
	return failed, err
}

// Stats has a VM use one core since it was started, and all of its memory.
func (m *Memory) Stats(context.Context) (map[string]hypervisor.Stats, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.refusal("Stats"); err != nil {
		return nil, fmt.Errorf("reading the statistics of domains: %w", err)
	}
	all := make(map[string]hypervisor.Stats)
	for name, d := range m.domains {
		if d.executes {
			now := time.Now()
			all[name] = hypervisor.Stats{At: now, CPU: now.Sub(d.began), RSS: d.memory}
		}
	}
	return all, nil
}

// WaitEnd follows what is done to a domain.
func (m *Memory) WaitEnd(ctx context.Context, name string, look func(context.Context, hypervisor.Guest) time.Duration) (vm.Exit, error) {
	news := make(chan struct{}, 1)
	defer m.watch(name, news)()
	for {
		var is domain
		err := m.on("WaitEnd", name, func(d *domain) error {
			is = *d
			return nil
		})
		if errors.Is(err, hypervisor.ErrNoDomain) {
			gone := destroyed()
			gone.EndedAt = time.Now()
			return gone, nil
		}
		if err == nil && !is.executes {
			return is.exit, nil
		}
		var again <-chan time.Time
		if err == nil {
			if soon := look(ctx, is.guest); soon > 0 {
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

func (m *Memory) watch(name string, news chan<- struct{}) (stop func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watches[news] = name
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watches, news)
	}
}
