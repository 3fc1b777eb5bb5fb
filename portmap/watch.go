package portmap

import (
	"context"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// resubscribeAfter is when the kernel is asked again to tell of changes.
const resubscribeAfter = time.Second

// Watch tells when the host's nftables or its network interfaces have changed,
// whoever changed them, until the context ends. Several changes may be told as one.
// Those by iptables' old kernel interface are not seen.
//
// See NFNLGRP_NFTABLES and RTNLGRP_LINK of netlink(7).
func Watch(ctx context.Context) <-chan struct{} {
	changes := make(chan struct{}, 1)
	go watch(ctx, changes, unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	go watch(ctx, changes, unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	return changes
}

func watch(ctx context.Context, changes chan<- struct{}, protocol int, group uint) {
	for ctx.Err() == nil {
		listen(ctx, changes, protocol, group)
		select {
		case <-ctx.Done():
		case <-time.After(resubscribeAfter):
			tell(changes) // some may have been missed
		}
	}
}

// listen tells of changes until the kernel's list of them overflows, for one.
func listen(ctx context.Context, changes chan<- struct{}, protocol int, group uint) {
	socket, err := nl.Subscribe(protocol, group)
	if err != nil {
		return
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, socket.Close)()
	for {
		if _, _, err := socket.Receive(); err != nil {
			return
		}
		tell(changes)
	}
}

func tell(changes chan<- struct{}) {
	select {
	case changes <- struct{}{}:
	default: // the one before has not been heard yet
	}
}
