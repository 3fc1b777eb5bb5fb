package turns

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestOneAtATimeHasItsTurn(t *testing.T) {
	var all Turns
	var working, done int
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			over, err := all.Take(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			defer over()
			if working++; working != 1 {
				t.Errorf("%d work at once", working)
			}
			working--
			done++
		})
	}
	wait.Wait()
	if done != 50 || len(all.taken) != 0 {
		t.Errorf("%d of 50 had their turn, %d turns are still taken", done, len(all.taken))
	}
}

func TestWaitingForATurnEndsWithTheContext(t *testing.T) {
	var all Turns
	over, err := all.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer over()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.Take(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want that of the context", err)
	}
	other, err := all.Take(ctx, "b")
	if err != nil {
		t.Fatalf("another thing is not free: %v", err)
	}
	other()
}
