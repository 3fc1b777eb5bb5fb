package rbd

import (
	"context"
	"flag"
	"fmt"
	"syscall"
	"testing"

	"nomad-driver-virt/doctest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// What follows "could not make disk vda:", or is in the agent's log.
func TestMessagesOfCeph(t *testing.T) {
	const unconnected = "rbd: couldn't connect to the cluster!"
	var all []doctest.Message
	for _, test := range []struct {
		status syscall.Errno
		said   string
		why    string
	}{
		{syscall.ETIMEDOUT, unconnected, "`ceph -s` on a monitor's host tells. It may be a firewall: ports 3300 and 6789."},
		{syscall.EINVAL, "unable to parse addrs … " + unconnected, ""},
		{syscall.EACCES, unconnected, "The key in the plugin's configuration is not that of `ceph auth get-key client.nomad`."},
		{syscall.EIO, unconnected, "The number is that of `errno`."},
		{syscall.ENOENT, "rbd: error opening pool …", ""},
		{syscall.EPERM, "(1) Operation not permitted", "`ceph auth caps client.nomad mon 'profile rbd' osd 'profile rbd pool=vms'`."},
		{syscall.ENOSPC, "", ""},
		{syscall.ETIMEDOUT, "", "A cluster that is full makes its clients wait, too."},
		{syscall.ENOENT, "", ""},
		{syscall.EEXIST, "", ""},
		{syscall.ENOTEMPTY, "linked clones", "`rbd children POOL/VOLUME` lists them."},
		{syscall.ENOTEMPTY, "", "Somebody has made a snapshot of it: `rbd snap purge POOL/VOLUME`."},
		{syscall.EBUSY, "watchers", "`rbd status POOL/VOLUME` tells who."},
		{1, "rbd: …", ""},
	} {
		all = append(all, doctest.Message{Said: pool.explain(test.status, test.said).Error(), Why: test.why})
	}
	timeout := fmt.Errorf("it took longer than 30m0s: %w", context.DeadlineExceeded)
	all = append(all, doctest.Message{Said: pool.givenUp("qemu-img", timeout).Error(), Why: ""})
	doctest.Page(t, "../docs/messages.md", *update, doctest.Section{Name: "messages of Ceph's volumes", Text: doctest.Messages(all)})
}
