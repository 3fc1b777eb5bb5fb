package storage

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nomad-driver-virt/rbd"
)

// A client that died is one that lives for half a minute, and for a busy OSD for
// somewhat longer.
func TestImageOfAClientThatDiedIsRemovedWhenCephHasNoticed(t *testing.T) {
	for _, test := range []struct {
		name    string
		noticed time.Duration
		want    error
	}{
		{"nobody has it open", 0, nil},
		{"noticed in time", 30 * time.Second, nil},
		{"noticed by a busy OSD", 40 * time.Second, nil},
		{"a client that lives", time.Hour, rbd.ErrOpen},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := untilClosed(t.Context(), func(context.Context) error {
					if time.Since(began) < test.noticed {
						return rbd.ErrOpen
					}
					return nil
				})
				if !errors.Is(err, test.want) {
					t.Errorf("the error is %v, want %v", err, test.want)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it takes %s", took)
				}
			})
		})
	}
}
