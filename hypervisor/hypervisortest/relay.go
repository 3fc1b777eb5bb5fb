package hypervisortest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// Relay stands between a hypervisor.Host and a libvirt's socket. It counts the
// calls, and has libvirt's driver for tests take what that for QEMU takes: as of
// 9.0 it refuses some flags, which the relay leaves out, and knows no start of a
// paused guest, which the relay makes a start and a suspension.
//
// See https://libvirt.org/kbase/internals/rpc.html
type Relay struct {
	listener net.Listener
	libvirt  string // its socket
	calls    atomic.Int64

	mu      sync.Mutex // guards conns
	conns   map[net.Conn]bool
	mute    atomic.Bool  // agents are
	stalled atomic.Bool  // the making of volumes is
	unheard atomic.Int64 // calls that have no answer for one of the two
}

// NewRelay returns a relay to a libvirt's socket, which ends with the test.
func NewRelay(t testing.TB, libvirt string) *Relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "relay") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{listener: listener, libvirt: libvirt, conns: make(map[net.Conn]bool)}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		r.accept(t.Context())
	}()
	t.Cleanup(func() {
		listener.Close()
		r.HangUp()
		<-accepted
		os.RemoveAll(dir)
	})
	return r
}

// URI is that of libvirt's driver for tests, by way of the relay.
func (r *Relay) URI() string { return "test:///default?socket=" + r.listener.Addr().String() }

// Calls is how many calls there have been, pings among them.
func (r *Relay) Calls() int64 { return r.calls.Load() }

// MuteAgents has the agents of all guests not answer when they are asked to shut
// down. As libvirt does by default, the relay reads no more of a connection then
// that has five such requests.
func (r *Relay) MuteAgents() { r.mute.Store(true) }

// StallVolumes has nobody who makes a volume hear that it is made, in the same way.
func (r *Relay) StallVolumes() { r.stalled.Store(true) }

// Unheard is how many calls were made that have no answer for one of the two.
func (r *Relay) Unheard() int64 { return r.unheard.Load() }

// swallows tells whether a call is to have no answer.
func (r *Relay) swallows(p packet) bool {
	if p.number(atType) != typeCall {
		return false
	}
	switch p.number(atProcedure) {
	case procShutdown:
		_, flags := p.flags()
		return r.mute.Load() && flags&shutdownByAgent != 0
	case procCreateVolume:
		return r.stalled.Load()
	}
	return false
}

// HangUp ends the connections that there are.
func (r *Relay) HangUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		conn.Close()
	}
}

// holds notes a connection, which HangUp ends, until the function that it returns
// is called.
func (r *Relay) holds(conn net.Conn) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[conn] = true
	return func() {
		conn.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.conns, conn)
	}
}

func (r *Relay) accept(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		all.Go(func() { r.serve(ctx, conn) })
	}
}

func (r *Relay) serve(ctx context.Context, conn net.Conn) {
	defer r.holds(conn)()
	libvirt, err := new(net.Dialer).DialContext(ctx, "unix", r.libvirt)
	if err != nil {
		return
	}
	defer r.holds(libvirt)()
	c := conversation{relay: r, over: ctx.Done(), host: conn, libvirt: libvirt, starts: make(map[uint32]*start)}
	var both sync.WaitGroup
	both.Go(func() {
		defer libvirt.Close()
		_ = pass(conn, c.asked)
	})
	both.Go(func() {
		defer conn.Close()
		_ = pass(libvirt, c.answered)
	})
	both.Wait()
}

// pass hands over what is read of a connection, packet by packet.
func pass(from net.Conn, to func(packet) error) error {
	for {
		p, err := read(from)
		if err == nil {
			err = to(p)
		}
		if err != nil {
			return err
		}
	}
}

// packet is one of libvirt's, with its length and its header of 6 numbers.
type packet []byte

const (
	headerSize  = 28
	maxPacket   = 64 << 20
	atProcedure = 12
	atType      = 16
	atSerial    = 20
	atStatus    = 24

	typeCall, typeReply = 0, 1
	statusOK            = 0
)

func (p packet) number(at int) uint32 { return binary.BigEndian.Uint32(p[at:]) }

func (p packet) set(at int, number uint32) { binary.BigEndian.PutUint32(p[at:], number) }

// flags are the last argument of a call that has some.
func (p packet) flags() (at int, flags uint32) { return len(p) - 4, p.number(len(p) - 4) }

func read(from io.Reader) (packet, error) {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size < headerSize || size > maxPacket {
		return nil, fmt.Errorf("a packet of %d bytes is none of libvirt's", size)
	}
	p := make(packet, size)
	copy(p, length[:])
	_, err := io.ReadFull(from, p[len(length):])
	return p, err
}

// conversation is one connection.
type conversation struct {
	relay         *Relay
	over          <-chan struct{}
	host, libvirt net.Conn
	swallowed     int // calls; of the goroutine that reads what is asked

	mu     sync.Mutex        // guards starts, and is held while libvirt is written to: two do so
	starts map[uint32]*start // that are not answered yet, by serial number
}

// start is a call for a paused guest.
type start struct {
	domain []byte // whose, as libvirt's arguments have it
	answer packet // nil: not given yet
}

// Numbers of libvirt's remote protocol, and flags of the calls that the driver for
// tests refuses.
const (
	procSuspend       = 34
	procCreateVolume  = 93  // virStorageVolCreateXML
	procCreate        = 196 // virDomainCreateWithFlags
	procUndefine      = 231 // virDomainUndefineFlags
	procShutdown      = 258 // virDomainShutdownFlags
	createPaused      = 1 << 0
	shutdownByAgent   = 1 << 1
	mostUnanswered    = 5
	undefineSupported = 1<<0 | 1<<1 // managed save, metadata of snapshots
)

// asked passes a call on to libvirt.
func (c *conversation) asked(p packet) error {
	if c.relay.swallows(p) {
		c.relay.unheard.Add(1)
		if c.swallowed++; c.swallowed >= mostUnanswered {
			<-c.over
		}
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.number(atType) == typeCall {
		c.relay.calls.Add(1)
		c.ease(p)
	}
	_, err := c.libvirt.Write(p)
	return err
}

// ease takes off a call what the driver for tests refuses.
func (c *conversation) ease(p packet) {
	at, flags := p.flags()
	switch p.number(atProcedure) {
	case procCreate:
		if flags&createPaused != 0 {
			c.starts[p.number(atSerial)] = &start{domain: p[headerSize:at]}
		}
		p.set(at, flags&^createPaused)
	case procUndefine:
		p.set(at, flags&undefineSupported)
	case procShutdown:
		if flags&shutdownByAgent == 0 { // it has none, and says so
			p.set(at, 0)
		}
	}
}

// answered passes an answer on, or what libvirt tells by itself.
func (c *conversation) answered(p packet) error {
	heard, err := c.settle(p)
	if err == nil && heard != nil {
		_, err = c.host.Write(heard)
	}
	return err
}

// settle has a guest suspended that was to be started paused. It returns what the
// other side is to hear; nil: nothing yet.
func (c *conversation) settle(p packet) (packet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	serial := p.number(atSerial)
	s, is := c.starts[serial]
	if !is || p.number(atType) != typeReply {
		return p, nil
	}
	if s.answer == nil && p.number(atStatus) == statusOK {
		s.answer = p
		suspend := append(append(packet{}, p[:headerSize]...), s.domain...)
		suspend.set(0, uint32(len(suspend)))
		suspend.set(atProcedure, procSuspend)
		suspend.set(atType, typeCall)
		_, err := c.libvirt.Write(suspend)
		return nil, err
	}
	delete(c.starts, serial)
	if p.number(atStatus) == statusOK {
		return s.answer, nil
	}
	p.set(atProcedure, procCreate)
	return p, nil
}
