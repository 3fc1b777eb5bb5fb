package hypervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/turns"
)

const (
	// Where a context has no deadline these are of a call, and of the wait for one's turn
	// to make it: the turns of many VMs that start at once come one after another.
	callTimeout = 30 * time.Second
	turnTimeout = 2 * time.Minute

	// mostCalls is how many calls may have no answer yet on the connection that all
	// share: libvirt reads nothing more from one with five (max_client_requests), and
	// the fifth is the ping, by which one that is busy is told from one that hangs.
	mostCalls = 4
	// mostSlow is how many calls of a kind that takes long are made at once. libvirt has
	// twenty workers by default: what may take minutes are this many volumes, and
	// MostAgents, which leaves some to all else. One that is given up is not counted any
	// more, though libvirt may still be at it: hung storage is not to hold up the rest.
	mostSlow = 4
)

// call asks libvirt for something within the context's deadline, or
// callTimeout. The library has no contexts: an answer that comes too late is
// dropped, and a call that is never answered ends with its connection.
func call[T any](ctx context.Context, h *Host, asked string, fn func(*libvirt.Libvirt) (T, error)) (T, error) {
	return callThen(ctx, h, asked, func(_ context.Context, c *libvirt.Libvirt) (T, error) { return fn(c) }, func() {})
}

// callThen is call. fn has the context of the call, which has ended when that was given
// up; ended is called when fn has ended, or will not begin.
func callThen[T any](ctx context.Context, h *Host, asked string, fn func(context.Context, *libvirt.Libvirt) (T, error), ended func()) (T, error) {
	var zero T
	answered, err := h.calls.begin(ctx)
	if err != nil {
		ended()
		return zero, fmt.Errorf("%s: %w", asked, err)
	}
	ctx, cancel := bounded(ctx, callTimeout)
	defer cancel()
	client, err := h.connection(ctx)
	if err != nil {
		answered()
		ended()
		return zero, fmt.Errorf("%s: %w", asked, err)
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		defer ended()
		defer answered()
		value, err := fn(ctx, client)
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return zero, fmt.Errorf("%s: %w", asked, a.err)
		}
		return a.value, nil
	case <-ctx.Done():
		return zero, fmt.Errorf("%s: libvirt did not answer: %w", asked, ctx.Err())
	}
}

// do is call for what has no answer but an error.
func do(ctx context.Context, h *Host, asked string, fn func(*libvirt.Libvirt) error) error {
	_, err := call(ctx, h, asked, func(c *libvirt.Libvirt) (struct{}, error) { return struct{}{}, fn(c) })
	return err
}

// slowly is do for what may take libvirt long, on a connection of its own: others are
// answered meanwhile, and it is given up with that.
func slowly(ctx context.Context, h *Host, through turnstile, asked string, fn func(*libvirt.Libvirt) error) error {
	leave, err := through.passSoon(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	defer leave()
	ctx, cancel := bounded(ctx, callTimeout)
	defer cancel()
	if _, err = h.connection(ctx); err == nil { // a libvirt that is away is so for all calls
		err = h.apart(ctx, fn)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", asked, err)
	}
	return nil
}

// apart calls fn on a connection of its own, which is closed when the context ends.
func (h *Host) apart(ctx context.Context, fn func(*libvirt.Libvirt) error) error {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	client, _, err := h.open(ctx, conn, toNothing)
	if err == nil {
		err = fn(client)
		takeLeave(client, conn) // else libvirt logs an error for each
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("libvirt did not answer: %w", ctx.Err())
	}
	return err
}

// bounded gives a context that has none a deadline.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, is := ctx.Deadline(); is {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, limit)
}

// turn waits until nobody else works on a thing with libvirt.
func turn(ctx context.Context, of *turns.Turns, name string) (over func(), err error) {
	ctx, cancel := bounded(ctx, turnTimeout)
	defer cancel()
	return of.Take(ctx, name)
}

// turnstile lets as many through at once as it has room for; nil lets all.
type turnstile chan struct{}

// pass waits for one's turn, which is over when the function that it returns is called.
func (t turnstile) pass(ctx context.Context) (leave func(), err error) {
	if t == nil {
		return func() {}, nil
	}
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("libvirt has not answered %d others before it yet: %w", cap(t), ctx.Err())
	}
}

// passSoon is pass that does not wait for ever.
func (t turnstile) passSoon(ctx context.Context) (leave func(), err error) {
	ctx, cancel := bounded(ctx, turnTimeout)
	defer cancel()
	return t.pass(ctx)
}

// calls are those on one connection that libvirt has not answered. One that is given up
// stays among them.
type calls struct {
	turnstile

	mu    sync.Mutex // guards the fields below
	open  int
	moved time.Time // when one began or was answered, last
}

func (c *calls) begin(ctx context.Context) (answered func(), err error) {
	leave, err := c.passSoon(ctx)
	if err != nil {
		return nil, err
	}
	c.count(1)
	return func() {
		c.count(-1)
		leave()
	}, nil
}

func (c *calls) count(change int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += change
	c.moved = time.Now()
}

// stuck tells whether no other call can begin, and none has had an answer for as long as
// a call without a deadline has.
func (c *calls) stuck() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open == cap(c.turnstile) && time.Since(c.moved) > callTimeout
}
