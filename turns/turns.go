// Package turns lets one goroutine at a time work on a thing that has a name.
package turns

import (
	"context"
	"sync"
)

// Turns is a set of locks, by name. Its zero value is ready to use.
type Turns struct {
	mu    sync.Mutex // guards taken
	taken map[string]chan struct{}
}

// Take waits until nobody else works on the thing, or the context ends. The
// turn is over when the function that it returns is called. An error is the context's cause.
func (t *Turns) Take(ctx context.Context, name string) (done func(), err error) {
	for {
		t.mu.Lock()
		over, taken := t.taken[name]
		if !taken {
			over = make(chan struct{})
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[name] = over
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.taken, name)
				close(over)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
