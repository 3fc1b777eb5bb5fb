// Package hypervisor talks to libvirt on this host: domains and their events,
// storage pools and volumes, networks and their DHCP reservations. It is the
// only package that does. Host is a connection that heals by itself: a call
// while libvirt is away fails, a wait goes on when it is back.
package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/turns"
)

const (
	connectTimeout = 5 * time.Second
	reconnectEvery = 2 * time.Second
	pingEvery      = 10 * time.Second
)

// Host is the libvirt of this host. Its methods may be called concurrently.
// Every error of a call says what was asked of libvirt. Where the context has no
// deadline of its own a call is given up 30 s after it has its turn, for which it waits
// 2 minutes at most.
type Host struct {
	uri     string
	sockets []string
	login   login

	mu         sync.Mutex // guards the fields below
	client     *libvirt.Libvirt
	err        error                            // why client is nil; nil before the first attempt
	changed    chan struct{}                    // closed when client or err changes
	watches    map[chan<- struct{}]watch        // who waits for news of which domain
	diskErrors map[string]DiskError             // by domain: the last one that this connection has told of
	signalled  map[string]bool                  // by domain: this connection has told that QEMU was sent a signal to end
	offered    map[guestType]domainCapabilities // that were read on this connection
	pools      map[string]*poolWork             // by name
	promised   map[string]domxml.DHCPHost       // by hardware address: an address that is chosen, and not reserved yet

	calls      calls       // that are made on the connection
	starts     turnstile   // for QEMUs that are started
	ends       turnstile   // for QEMUs that are destroyed
	fills      turnstile   // for volumes that are allocated
	removals   turnstile   // for volumes that are deleted
	agents     turnstile   // for guests' agents that are asked to shut down
	addressees turnstile   // the same, for their addresses
	domains    turns.Turns // by name: to change one
	telling    turns.Turns // by storage pool: to tell libvirt of it
	choosing   turns.Turns // by network: to choose an address
	changing   turns.Turns // by network: libvirt makes one change at a time, which takes time
}

// New returns the libvirt at a URI of this host, "qemu:///system" for one. It
// connects to nothing yet: Run does.
func New(uri string) (*Host, error) {
	sockets, err := socketsOf(uri)
	if err != nil {
		return nil, err
	}
	return &Host{
		uri:      uri,
		sockets:  sockets,
		changed:  make(chan struct{}),
		watches:  make(map[chan<- struct{}]watch),
		pools:    make(map[string]*poolWork),
		promised: make(map[string]domxml.DHCPHost),

		calls:      calls{turnstile: make(turnstile, mostCalls)},
		starts:     make(turnstile, mostSlow),
		ends:       make(turnstile, mostSlow),
		fills:      make(turnstile, mostSlow),
		removals:   make(turnstile, mostSlow),
		agents:     make(turnstile, MostAgents),
		addressees: make(turnstile, mostAddressees),
	}, nil
}

// SetLogin sets the name and password for a libvirt that asks for them (SASL).
// It comes before Run.
func (h *Host) SetLogin(user, password string) {
	h.login = login{user, password}
}

// Run connects, and connects again whenever the connection is lost, until the
// context ends.
func (h *Host) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := h.session(ctx)
		h.set(nil, err)
		select {
		case <-ctx.Done():
		case <-time.After(reconnectEvery):
		}
	}
}

// Health returns nil while libvirt answers, else why it does not. Before the
// first attempt to connect has ended it waits for that.
func (h *Host) Health(ctx context.Context) error {
	_, err := h.connection(ctx)
	return err
}

// Changed returns a channel that is closed when libvirt comes or goes.
func (h *Host) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// session is one connection, from dialling to its loss, which it explains.
func (h *Host) session(ctx context.Context) error {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	// Events are given up when the connection is closed: where both happen at once,
	// libvirtd 9.0 has crashed.
	listening, deafen := context.WithCancel(context.WithoutCancel(ctx))
	defer deafen()
	defer conn.Close()
	// The library waits for as long as the connection is open.
	opening := context.AfterFunc(ctx, func() { conn.Close() })
	defer opening()

	client, events, err := h.open(listening, conn, subscribe)
	if err != nil {
		return err
	}
	if opening() {
		defer func() {
			if ctx.Err() != nil {
				takeLeave(client, conn)
			}
		}()
	}
	defer events.drain()
	h.set(client, nil)
	h.wake("")
	return h.follow(ctx, func() error {
		_, err := client.ConnectGetLibVersion()
		return err
	}, events)
}

// dial connects to libvirt's socket.
func (h *Host) dial(ctx context.Context) (net.Conn, error) {
	conn, err := dial(ctx, h.sockets)
	if err != nil {
		return nil, unreached(h.uri, os.Geteuid() == 0, err)
	}
	return conn, nil
}

// events is what libvirt tells by itself. The two are not in order.
type events struct {
	lifecycle  <-chan libvirt.DomainEventLifecycleMsg
	diskErrors <-chan any // *libvirt.DomainEventCallbackIOErrorReasonMsg
}

func subscribe(ctx context.Context, client *libvirt.Libvirt) (e events, err error) {
	if e.lifecycle, err = client.LifecycleEvents(ctx); err != nil {
		return e, err
	}
	e.diskErrors, err = client.SubscribeEvents(ctx, libvirt.DomainEventIDIoErrorReason, nil)
	return e, err
}

// drain takes what the library has read: its goroutines end only when somebody
// does.
func (e events) drain() {
	if e.lifecycle != nil {
		go func() {
			for range e.lifecycle { //nolint:revive // emptied, not used
			}
		}()
	}
	if e.diskErrors != nil {
		go func() {
			for range e.diskErrors { //nolint:revive // emptied, not used
			}
		}()
	}
}

// open makes a client of a connection, which listens to events.
func (h *Host) open(ctx context.Context, conn net.Conn, listen func(context.Context, *libvirt.Libvirt) (events, error)) (*libvirt.Libvirt, events, error) {
	patience := time.AfterFunc(connectTimeout, func() { conn.Close() })
	client := libvirt.NewWithDialer(dialed{conn})
	err := h.login.to(conn)
	if err == nil {
		err = client.ConnectToURI(libvirt.ConnectURI(h.uri))
	}
	var told events
	if err == nil {
		told, err = listen(ctx, client)
	}
	switch inTime := patience.Stop(); {
	case !inTime:
		err = fmt.Errorf("libvirt at %s does not answer, for %s", h.uri, connectTimeout)
	case err != nil:
		err = unopened(h.uri, os.Geteuid() == 0, err)
	default:
		return client, told, nil
	}
	told.drain()
	return nil, events{}, err
}

// follow hands events on until the connection is lost or falls silent, or is of no use
// any more because what was asked has no answer.
func (h *Host) follow(ctx context.Context, ping func() error, events events) error {
	due := time.NewTicker(pingEvery)
	defer due.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	pong := make(chan error, 1)
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-events.lifecycle:
			if !ok {
				return fmt.Errorf("libvirt at %s closed the connection", h.uri)
			}
			h.noteLifecycle(e)
		case e, ok := <-events.diskErrors:
			if !ok {
				return fmt.Errorf("libvirt at %s closed the connection", h.uri)
			}
			h.noteDiskError(e)
		case err := <-pong:
			if err != nil {
				return fmt.Errorf("libvirt at %s does not answer: %w", h.uri, err)
			}
			waiting = false
		case <-look.C:
			go h.lookAtAll(ctx) // it is given up before the next one is due
		case <-due.C:
			switch {
			case waiting:
				return fmt.Errorf("libvirt at %s has not answered for %s", h.uri, pingEvery)
			case h.calls.stuck():
				return fmt.Errorf("libvirt at %s has answered none of %d calls for %s", h.uri, mostCalls, callTimeout)
			}
			waiting = true
			go func() { pong <- ping() }()
		}
	}
}

func (h *Host) set(client *libvirt.Libvirt, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	same := h.client == client && h.err != nil && err != nil && h.err.Error() == err.Error()
	h.client, h.err = client, err
	h.offered = make(map[guestType]domainCapabilities)
	h.diskErrors = make(map[string]DiskError)
	h.signalled = make(map[string]bool)
	if same {
		return // it is away as it was
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// connection returns the client of the connection there is. It waits for the
// first attempt to connect, not for later ones.
func (h *Host) connection(ctx context.Context) (*libvirt.Libvirt, error) {
	for {
		h.mu.Lock()
		client, err, changed := h.client, h.err, h.changed
		h.mu.Unlock()
		if client != nil || err != nil {
			return client, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("libvirt at %s is not connected yet: %w", h.uri, ctx.Err())
		case <-changed:
		}
	}
}

// ErrRefused says that libvirt answered, and that the answer is no.
var ErrRefused = errors.New("refused by libvirt")

// isCode tells whether an error is libvirt's of that number.
func isCode(err error, code libvirt.ErrorNumber) bool {
	var e libvirt.Error
	return errors.As(err, &e) && e.Code == uint32(code)
}

// dialed is a connection that was made already, as the library's dialer.
type dialed struct{ conn net.Conn }

func (d dialed) Dial() (net.Conn, error) { return d.conn, nil }
