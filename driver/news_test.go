package driver

import (
	"errors"
	"testing"
	"time"
)

func TestWarningIsToldWhenItChangesAndOnceAnHour(t *testing.T) {
	full, away := errors.New("the pool is full"), errors.New("libvirt is away")
	began := time.Now()
	var last news
	for _, step := range []struct {
		at   time.Duration
		err  error
		tell bool
	}{
		{0, full, true},
		{15 * time.Second, errors.New("the pool is full"), false},
		{30 * time.Second, away, true},
		{45 * time.Second, full, true},
		{time.Hour, full, false},
		{time.Hour + 45*time.Second, full, true},
		{time.Hour + time.Minute, full, false},
		{time.Hour + 2*time.Minute, nil, false},
		{time.Hour + 3*time.Minute, full, true},
	} {
		if got := last.is(step.err, began.Add(step.at)); got != step.tell {
			t.Errorf("after %s, %v is told: %t, want %t", step.at, step.err, got, step.tell)
		}
	}
}
