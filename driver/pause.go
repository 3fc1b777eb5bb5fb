package driver

import "time"

// pausedFor is how long a guest is paused until that is told: it is for a moment
// when somebody takes a snapshot.
const pausedFor = 3 * time.Second

// pause is what is remembered of a guest that somebody has paused. It is told the
// time.
type pause struct {
	since   time.Time // zero: it is not paused
	told    bool
	ordered bool // by Nomad, and told by that
}

// lasts notes that the guest is paused. It tells whether it is time to tell that,
// once, or when it will be.
func (p *pause) lasts(now time.Time) (tell bool, again time.Duration) {
	if p.since.IsZero() {
		p.since = now
	}
	if p.told || p.ordered {
		return false, 0
	}
	if left := pausedFor - now.Sub(p.since); left > 0 {
		return false, left
	}
	p.told = true
	return true, 0
}

// over notes that the guest runs. It tells whether that is to be told.
func (p *pause) over() (tell bool) {
	told := p.told
	*p = pause{}
	return told
}
