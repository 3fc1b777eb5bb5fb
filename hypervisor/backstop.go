package hypervisor

import (
	"context"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// lookEvery is how often the states of all domains are read, lest an event was
// lost.
const lookEvery = time.Minute

// watch is somebody who waits for news of a domain.
type watch struct {
	name string
	seen *domainState // which was read last; nil: it could not be read
}

// missed tells whether a watch has not heard of how a domain is now.
func (w watch) missed(states map[string]domainState) bool {
	is, there := states[w.name]
	return !there || w.seen == nil || is != *w.seen
}

// lookAtAll wakes those who have missed something. It asks libvirt once, however
// many domains there are.
func (h *Host) lookAtAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	records, err := call(ctx, h, "reading the states of domains", func(c *libvirt.Libvirt) ([]libvirt.DomainStatsRecord, error) {
		return c.ConnectGetAllDomainStats(nil, uint32(libvirt.DomainStatsState), uint32(libvirt.ConnectGetAllDomainsStatsNowait))
	})
	if err != nil {
		return // those who are woken when libvirt is back look themselves
	}
	states := statesOf(records)
	h.mu.Lock()
	defer h.mu.Unlock()
	for news, w := range h.watches {
		if w.missed(states) {
			tell(news)
		}
	}
}

// statesOf reads the states of domains by name.
func statesOf(records []libvirt.DomainStatsRecord) map[string]domainState {
	states := make(map[string]domainState, len(records))
	for _, r := range records {
		var s domainState
		for _, p := range r.Params {
			number, _ := p.Value.I.(int32)
			switch p.Field {
			case libvirt.DomainStatsStateState:
				s.state = libvirt.DomainState(number)
			case libvirt.DomainStatsStateReason:
				s.reason = number
			}
		}
		states[r.Dom.Name] = s
	}
	return states
}

// watch has news of a domain sent to a channel with room for one, until the
// function that it returns is called.
func (h *Host) watch(name string, news chan<- struct{}) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watches[news] = watch{name: name}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watches, news)
	}
}

// sees notes what somebody who waits for news has read of the domain.
func (h *Host) sees(news chan<- struct{}, s domainState, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watches[news]
	w.seen = nil
	if err == nil {
		w.seen = &s
	}
	h.watches[news] = w
}

// wake tells those who wait for news of a domain; "" is news of all of them.
func (h *Host) wake(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for news, w := range h.watches {
		if name == "" || name == w.name {
			tell(news)
		}
	}
}

func tell(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // it has not read the last one yet, and will read the state after it
	}
}
