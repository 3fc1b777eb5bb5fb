package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

const (
	dialTimeout = 3 * time.Second // until a monitor takes a connection
	// Of a call that has libvirt ask Ceph: it gives up by itself, after 10 s at
	// each step, or 30 s where somebody else has defined the pool.
	cephTimeout = 2 * time.Minute
	// A key that is wrong is refused sooner than this, and a monitor that does not
	// answer is waited for longer.
	refusedWithin = 5 * time.Second
)

// EnsureCephPool has libvirt know and run a pool of that name that is a pool of
// a Ceph cluster, and hold the key of its client, in
// base64, for QEMU. A pool that runs with other monitors, another user or secret
// is stopped and started anew, which no VM notices. A pool of that name that is
// something else is an error that says both.
//
// While libvirt waits for Ceph it lists no pools. So it is not asked to start a
// pool whose monitors take no connection, nor one that it is just starting.
// Whether Ceph is well behind its monitors is for others to find out first, who
// can be given up.
func (h *Host) EnsureCephPool(ctx context.Context, name string, r vm.RBD, key string) error {
	ctx, cancel := bounded(ctx, callTimeout)
	defer cancel()
	client, err := h.connection(ctx)
	if err != nil {
		return fmt.Errorf("starting storage pool %s: %w", name, err)
	}
	pool, now := h.poolWork(name), told{client, r, key}
	if pool.runs(now) {
		return nil
	}
	done, err := h.poolTurn(ctx, name)
	if err != nil {
		return err
	}
	if err := h.ensureSecret(ctx, name, now, pool.wasTold()); err != nil {
		done()
		return err
	}
	pool.tell(now)
	active, err := h.ensureCephPoolDefined(ctx, name, r)
	if err == nil && !active {
		err = reachable(ctx, name, r)
	}
	if err != nil || active {
		done()
		return err
	}
	return h.startCephPool(ctx, name, r, done)
}

// ensureSecret has libvirt hold a key. It is handed over once for each
// connection, and when it is another: what libvirt has cannot be read.
func (h *Host) ensureSecret(ctx context.Context, pool string, now, before told) error {
	value, is := vm.CephKey(now.key)
	if !is {
		return fmt.Errorf("the key of client.%s for storage pool %s is not what `ceph auth print-key client.%s` writes",
			now.rbd.User, pool, now.rbd.User)
	}
	id, err := uuid.Parse(now.rbd.Secret)
	if err != nil {
		return fmt.Errorf("the secret of storage pool %s: %w", pool, err)
	}
	return do(ctx, h, "handing libvirt the key of storage pool "+pool, func(c *libvirt.Libvirt) error {
		secret, err := c.SecretLookupByUUID(libvirt.UUID(id))
		switch {
		case isCode(err, libvirt.ErrNoSecret):
			secret, err = defineSecret(c, id, pool)
		case err == nil && before.client == now.client && before.key == now.key && before.rbd.Secret == now.rbd.Secret:
			return nil
		}
		if err != nil {
			return err
		}
		return c.SecretSetValue(secret, value, 0)
	})
}

func defineSecret(c *libvirt.Libvirt, id uuid.UUID, pool string) (libvirt.Secret, error) {
	usage := domxml.SecretUsage(pool)
	other, err := c.SecretLookupByUsage(int32(libvirt.SecretUsageTypeCeph), usage)
	switch {
	case err == nil && other.UUID != libvirt.UUID(id):
		return libvirt.Secret{}, fmt.Errorf("libvirt has another secret for the Ceph usage %q, %x, and takes one only; "+
			"remove it with `virsh secret-undefine %x`", usage, other.UUID, other.UUID)
	case err != nil && !isCode(err, libvirt.ErrNoSecret):
		return libvirt.Secret{}, err
	}
	document, err := domxml.Secret(id.String(), pool)
	if err != nil {
		return libvirt.Secret{}, err
	}
	return c.SecretDefineXML(document, 0)
}

// ensureCephPoolDefined has libvirt know a pool as it is to be, and tells
// whether it runs.
func (h *Host) ensureCephPoolDefined(ctx context.Context, name string, r vm.RBD) (active bool, err error) {
	document, err := domxml.CephPool(name, r)
	if err != nil {
		return false, err
	}
	return call(ctx, h, "defining storage pool "+name, func(c *libvirt.Libvirt) (bool, error) {
		pool, err := c.StoragePoolLookupByName(name)
		switch {
		case isCode(err, libvirt.ErrNoStoragePool):
			pool, err = c.StoragePoolDefineXML(document, 0)
			err = explainDefine(err)
		case err == nil:
			pool, err = redefineCephPool(c, pool, r, document)
		}
		if err != nil {
			return false, err
		}
		// Not by itself when libvirt starts: with Ceph away, libvirt would answer
		// nobody before it has given up.
		active, err := c.StoragePoolIsActive(pool)
		return active == 1, err
	})
}

// explainDefine says what it means that libvirt takes no pool of Ceph's at all. It has
// no code of its own for that.
func explainDefine(err error) error {
	if err == nil || !strings.Contains(err.Error(), "missing backend for pool type") {
		return err
	}
	return fmt.Errorf("libvirt has no storage driver for Ceph here: install libvirt-daemon-driver-storage-rbd, "+
		"and restart libvirtd, or virtstoraged where that serves storage: %w", err)
}

// redefineCephPool replaces the definition of a pool that is the same pool of
// Ceph, and is reached otherwise.
func redefineCephPool(c *libvirt.Libvirt, pool libvirt.StoragePool, r vm.RBD, document string) (libvirt.StoragePool, error) {
	was, err := c.StoragePoolGetXMLDesc(pool, 0)
	if err != nil {
		return pool, err
	}
	is, err := domxml.ParsePool(was)
	if err != nil {
		return pool, err
	}
	if err := sameCephPool(is, r); err != nil || sameRBD(is.RBD, r) {
		return pool, err
	}
	if err := c.StoragePoolDestroy(pool); err != nil && !isCode(err, libvirt.ErrOperationInvalid) { // it does not run
		return pool, err
	}
	if err := c.StoragePoolUndefine(pool); err != nil {
		return pool, err
	}
	return c.StoragePoolDefineXML(document, 0)
}

// sameCephPool tells what is wrong with a pool that libvirt has by the name of a
// pool of Ceph.
func sameCephPool(is domxml.Pool, want vm.RBD) error {
	const advice = "the plugin's configuration says pool %s of a Ceph cluster; name the pool otherwise, or undefine libvirt's"
	switch {
	case is.Type != "rbd":
		return OtherPoolError{Reason: fmt.Sprintf("libvirt has a pool of that name of type %s, "+advice, is.Type, want.Pool)}
	case is.RBD.Pool != want.Pool:
		return OtherPoolError{Reason: fmt.Sprintf("libvirt has a pool of that name that is pool %s of a Ceph cluster, "+advice, is.RBD.Pool, want.Pool)}
	}
	return nil
}

// reachable tells whether any of the monitors takes a connection.
func reachable(ctx context.Context, name string, r vm.RBD) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	dialed := make(chan error, len(r.Monitors))
	for _, monitor := range r.Monitors {
		go func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", monitor)
			if err == nil {
				conn.Close()
			}
			dialed <- err
		}()
	}
	err := errors.New("none is named")
	for range r.Monitors {
		if err = <-dialed; err == nil {
			return nil
		}
	}
	return fmt.Errorf("starting storage pool %s: %s cannot be reached, since none of its monitors takes a connection (%w); "+
		"is Ceph up, and does the network lead there?", name, cephAt(r), err)
}

// startCephPool gives the turn back when libvirt is done, whether somebody waits
// for that or not.
func (h *Host) startCephPool(ctx context.Context, name string, r vm.RBD, done func()) error {
	answer := make(chan error, 1)
	began := time.Now()
	go func() {
		defer done()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cephTimeout)
		defer cancel()
		answer <- slowly(ctx, h, nil, "starting storage pool "+name, func(c *libvirt.Libvirt) error {
			pool, err := c.StoragePoolLookupByName(name)
			if err != nil {
				return err
			}
			return c.StoragePoolCreate(pool, 0)
		})
	}()
	select {
	case err := <-answer:
		return explainStart(r, err, time.Since(began))
	case <-ctx.Done():
		return fmt.Errorf("starting storage pool %s: %s cannot be reached, libvirt still waits for it: %w", name, cephAt(r), ctx.Err())
	}
}

// explainStart says what libvirt's error means when it starts a pool of Ceph:
// it knows where it failed, but not why.
func explainStart(r vm.RBD, err error, took time.Duration) error {
	var said libvirt.Error
	if !errors.As(err, &said) {
		return err
	}
	switch {
	case strings.Contains(said.Message, "failed to connect to the RADOS monitor") && took < refusedWithin:
		return fmt.Errorf("%s does not let client.%s in: there is no such user, or the key is not its key; "+
			"compare both with `ceph auth get client.%s`: %w", cephAt(r), r.User, r.User, err)
	case strings.Contains(said.Message, "failed to connect to the RADOS monitor"):
		return fmt.Errorf("%s cannot be reached: its monitors take connections and do not answer, do most of them run? %w", cephAt(r), err)
	case strings.Contains(said.Message, "RBD IoCTX"):
		return fmt.Errorf("%s does not exist: correct its name in the plugin's configuration, "+
			"or make it by `ceph osd pool create %s` and `rbd pool init %s`: %w", cephAt(r), r.Pool, r.Pool, err)
	case took >= refusedWithin:
		return fmt.Errorf("%s cannot be reached: its monitors answer, its OSDs do not; `ceph health detail` tells more: %w", cephAt(r), err)
	}
	return err
}

func cephAt(r vm.RBD) string {
	return fmt.Sprintf("Ceph pool %s at monitors %s", r.Pool, strings.Join(r.Monitors, ", "))
}

func sameRBD(a, b vm.RBD) bool {
	return a.Pool == b.Pool && a.User == b.User && a.Secret == b.Secret && slices.Equal(a.Monitors, b.Monitors)
}
