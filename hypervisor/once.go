package hypervisor

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/digitalocean/go-libvirt"
)

// Once connects for somebody who asks some things and leaves, rather than Run. It
// listens to no events.
func (h *Host) Once(ctx context.Context) (leave func(), err error) {
	conn, err := h.dial(ctx)
	if err != nil {
		return nil, err
	}
	client, _, err := h.open(ctx, conn, toNothing)
	if err != nil {
		conn.Close()
		return nil, err
	}
	h.set(client, nil)
	return func() {
		takeLeave(client, conn)
		h.set(nil, errLeft)
	}, nil
}

var errLeft = errors.New("the connection to libvirt was ended")

// toNothing is what Once listens to.
func toNothing(context.Context, *libvirt.Libvirt) (events, error) { return events{}, nil }

// leaveTimeout is for how long libvirt may take to say goodbye.
const leaveTimeout = 2 * time.Second

// takeLeave ends a connection as libvirt would have it.
func takeLeave(client *libvirt.Libvirt, conn net.Conn) {
	defer conn.Close()
	given := time.AfterFunc(leaveTimeout, func() { conn.Close() })
	defer given.Stop()
	_ = client.Disconnect() // it is closed in any case
}
