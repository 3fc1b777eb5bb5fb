package hypervisor

import (
	"context"
	"flag"
	"net/netip"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/doctest"
	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const messagesPage = "../docs/messages.md"

// messages collects what errors say.
type messages []doctest.Message

func (m *messages) add(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil {
		t.Fatalf("there is no error: %s", why)
	}
	*m = append(*m, doctest.Message{Said: err.Error(), Why: why})
}

func TestMessagesOfLibvirt(t *testing.T) {
	var all messages
	h, err := New("qemu:///system?socket=/run/libvirt/none-sock")
	if err != nil {
		t.Fatal(err)
	}
	all.add(t, h.session(t.Context()), "`systemctl status libvirtd`, or `virtqemud.socket` where libvirt's daemons are modular. "+
		"The driver connects again by itself. VMs that run go on.")
	all.add(t, unreached("qemu:///system", false, closedSocket), "Of the commands, run by another user. `sudo` runs them as root.")
	_, _, err = login{}.choose([]string{"GSSAPI", "DIGEST-MD5"})
	all.add(t, err, "libvirt is set up for Kerberos, for one.")
	all.add(t, sameDirectory(domxml.Pool{Type: "dir", Path: "/srv/other"}, "/var/lib/virt/storage"),
		"`virsh pool-dumpxml` shows libvirt's. What is in it stays when it is undefined: `virsh pool-destroy`, then `virsh pool-undefine`.")
	all.add(t, sameDirectory(domxml.Pool{Type: "logical"}, "/var/lib/virt/storage"), "")
	all.add(t, sharedDirectory([]domxml.Pool{{Name: "default", Type: "dir", Path: "/var/lib/libvirt/images"}}, "/var/lib/libvirt/images"),
		"Virtual machine managers make a pool `default` there, for one; so does a pool of the configuration that has got another name.")
	all.add(t, sameCephPool(domxml.Pool{Type: "dir"}, cephRBD), "")
	all.add(t, sameCephPool(domxml.Pool{Type: "rbd", RBD: vm.RBD{Pool: "other"}}, cephRBD), "")
	all.add(t, noFirmware(guestType{arch: "aarch64", machine: "virt"}), "")
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of libvirt", Text: doctest.Messages(all)})
}

func TestMessagesOfCeph(t *testing.T) {
	var all messages
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	one := cephRBD // they are asked at once
	one.Monitors = one.Monitors[:1]
	all.add(t, reachable(ctx, "ceph", one), "")
	all.add(t, explainDefine(libvirt.Error{Message: noDriver}), "The packages of Debian and of Red Hat have the same name.")
	for _, test := range []struct {
		said string
		took time.Duration
	}{
		{"failed to connect to the RADOS monitor on: …", time.Second},
		{"failed to connect to the RADOS monitor on: …", 10 * time.Second},
		{"failed to create the RBD IoCTX. …", time.Second},
		{"Unable to list RBD images: …", 10 * time.Second},
	} {
		all.add(t, explainStart(cephRBD, libvirt.Error{Message: test.said}, test.took), "")
	}
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of Ceph", Text: doctest.Messages(all)})
}

func TestMessagesOfAddresses(t *testing.T) {
	const own, other = "52:54:00:00:00:01", "52:54:00:00:00:02"
	addr := netip.MustParseAddr
	n := network("192.168.122.2 - 192.168.122.3")
	n.Gateway = netip.MustParsePrefix("192.168.122.1/24")
	n.Hosts = []domxml.DHCPHost{{MAC: other, Addr: addr("192.168.122.2")}}
	leases := map[netip.Addr]string{addr("192.168.122.2"): other, addr("192.168.122.3"): "52:54:00:00:00:03"}
	var all messages
	_, err := chooseAddress(n, leases, own, netip.Addr{})
	all.add(t, err, "`virsh net-edit default` has the range. Leases last an hour; a VM's is given back when it is removed, "+
		"and the agent's log says where that could not be done.")
	all.add(t, mayHave(n, own, addr("192.168.122.2")), "`virsh net-dumpxml default` has the reservations.")
	all.add(t, mayHave(n, own, addr("192.168.122.1")), "")
	all.add(t, mayHave(n, other, addr("192.168.122.9")), "The job's `mac` and `address` do not agree with what somebody has reserved.")
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of addresses", Text: doctest.Messages(all)})
}

func TestMessagesOfEnds(t *testing.T) {
	off := func(reason libvirt.DomainShutoffReason) error {
		return exitOf(domainState{libvirt.DomainShutoff, int32(reason)}).Err
	}
	var all messages
	all.add(t, exitOf(domainState{libvirt.DomainCrashed, 0}).Err, "")
	all.add(t, off(libvirt.DomainShutoffDestroyed), "`virsh destroy`, `virsh undefine`, or another program. Nomad starts the task anew, as its `restart` says.")
	all.add(t, off(libvirt.DomainShutoffMigrated), "")
	all.add(t, off(libvirt.DomainShutoffSaved), "See [When the host shuts down](lifecycle.md#when-the-host-shuts-down).")
	all.add(t, off(libvirt.DomainShutoffUnknown), "The host was rebooted, or crashed, for one.")
	all.add(t, crashed(vm.Exit{}, "", true).Err, "See [CPU, memory, acceleration](task-configuration.md#cpu-memory-acceleration).")
	all.add(t, crashed(vm.Exit{}, "qemu-system-x86_64: …", false).Err, "`/var/log/libvirt/qemu/VM.log` has the rest.")
	all.add(t, crashed(vm.Exit{}, "", false).Err, "")
	h := &Host{signalled: map[string]bool{"web": true}}
	all.add(t, h.lookInto(t.Context(), "web", domainState{}, vm.Exit{}).Err, "A guest that is shut down by its host's `libvirt-guests` has exit code 1, too.")
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of ends", Text: doctest.Messages(all)})
}
