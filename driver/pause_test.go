package driver

import (
	"testing"
	"time"
)

func TestPauseIsToldWhenItLasts(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var p pause
	lasts := func(after time.Duration, wantTell bool, wantAgain time.Duration) {
		t.Helper()
		if tell, again := p.lasts(start.Add(after)); tell != wantTell || again != wantAgain {
			t.Errorf("after %s: %t, again in %s, want %t, %s", after, tell, again, wantTell, wantAgain)
		}
	}
	lasts(0, false, 3*time.Second)
	lasts(time.Second, false, 2*time.Second)
	if p.over() {
		t.Error("the end of a pause is told that was not")
	}
	lasts(10*time.Second, false, 3*time.Second)
	lasts(13*time.Second, true, 0)
	lasts(20*time.Second, false, 0)
	if !p.over() {
		t.Error("the end of a pause is not told that was")
	}
	if p.over() {
		t.Error("the end of a pause is told twice")
	}
	lasts(30*time.Second, false, 3*time.Second)
}
