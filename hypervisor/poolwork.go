package hypervisor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/vm"
)

// poolWork is what goes on with a storage pool.
type poolWork struct {
	mu      sync.Mutex // guards the fields below
	told    told       // what libvirt was told last, of a pool of Ceph
	looks   bool       // libvirt refreshes the pool
	follows bool       // a goroutine sees to its refreshes
	again   bool       // another is wanted
}

// told is what libvirt was told of a pool of Ceph, on which connection.
type told struct {
	client *libvirt.Libvirt
	rbd    vm.RBD
	key    string
}

func (h *Host) poolWork(name string) *poolWork {
	h.mu.Lock()
	defer h.mu.Unlock()
	pool, is := h.pools[name]
	if !is {
		pool = new(poolWork)
		h.pools[name] = pool
	}
	return pool
}

// poolTurn waits until nobody else tells libvirt of a pool.
func (h *Host) poolTurn(ctx context.Context, name string) (over func(), err error) {
	over, err = turn(ctx, &h.telling, name)
	if err != nil {
		return nil, fmt.Errorf("storage pool %s is being started, and libvirt has not done so yet: %w", name, err)
	}
	return over, nil
}

func (p *poolWork) tell(now told) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told = now
}

func (p *poolWork) wasTold() told {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told
}

// runs tells whether a pool of Ceph is known to run as it is to be: it does while
// it is refreshed, and libvirt does not say so before it is done.
func (p *poolWork) runs(now told) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.looks && p.told.client == now.client && p.told.key == now.key && sameRBD(p.told.rbd, now.rbd)
}

// refreshTimeout bounds one refresh: libvirt gives a Ceph up that is away.
const refreshTimeout = 2 * time.Minute

// refreshAgain is when a refresh is asked for again that libvirt has declined.
const refreshAgain = 200 * time.Millisecond

// RefreshPool has libvirt look at a pool again, so that virsh lists what others
// have changed. It returns at once: libvirt opens each volume of the pool for
// that (about 5 ms for one of Ceph), and lists no pools meanwhile. It does so for
// no more than a tenth of the time. If Ceph fails it libvirt stops the pool.
func (h *Host) RefreshPool(ctx context.Context, name string) {
	pool := h.poolWork(name)
	if !pool.askRefresh() {
		return
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		for pool.beginRefresh() {
			began := time.Now()
			h.refreshPool(ctx, name)
			took := time.Since(began)
			pool.endRefresh()
			time.Sleep(9 * took)
		}
	}()
}

// refreshPool is for convenience: what fails here fails where it matters, too.
func (h *Host) refreshPool(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	_ = slowly(ctx, h, nil, "refreshing storage pool "+name, func(c *libvirt.Libvirt) error {
		for {
			pool, err := c.StoragePoolLookupByName(name)
			if err == nil {
				err = c.StoragePoolRefresh(pool, 0)
			}
			// libvirt declines while it makes a volume in the pool ("has asynchronous
			// jobs running"), and has no code of its own for that.
			if !isCode(err, libvirt.ErrInternalError) {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(refreshAgain):
			}
		}
	})
}

// askRefresh tells whether the one who asks has to see to it.
func (p *poolWork) askRefresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.again = true
	first := !p.follows
	p.follows = true
	return first
}

func (p *poolWork) beginRefresh() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks, p.follows, p.again = p.again, p.again, false
	return p.looks
}

func (p *poolWork) endRefresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks = false
}
