package hypervisor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

var cephRBD = vm.RBD{Pool: "vms", Monitors: []string{"10.0.0.1:3300", "[fd99::2]:6789"}, User: "nomad", Secret: domxml.SecretUUID("ceph")}

// noDriver is what libvirt says of its own packages.
const noDriver = "internal error: missing backend for pool type 9 (rbd)"

func TestExplainStart(t *testing.T) {
	const noConnection = "failed to connect to the RADOS monitor on: 10.0.0.1:3300,: No such file or directory"
	for _, test := range []struct {
		name, said string
		took       time.Duration
		want       string
	}{
		{"a wrong key", noConnection, time.Second,
			"Ceph pool vms at monitors 10.0.0.1:3300, [fd99::2]:6789 does not let client.nomad in: there is no such user, or the key is not its key; " +
				"compare both with `ceph auth get client.nomad`: "},
		{"monitors without a quorum", noConnection, 10 * time.Second,
			"Ceph pool vms at monitors 10.0.0.1:3300, [fd99::2]:6789 cannot be reached: its monitors take connections and do not answer, do most of them run? "},
		{"no such pool", "failed to create the RBD IoCTX. Does the pool 'vms' exist?: No such file or directory", time.Second,
			"Ceph pool vms at monitors 10.0.0.1:3300, [fd99::2]:6789 does not exist: correct its name in the plugin's configuration, " +
				"or make it by `ceph osd pool create vms` and `rbd pool init vms`: "},
		{"silent OSDs", "Unable to list RBD images: No such file or directory", 10 * time.Second,
			"Ceph pool vms at monitors 10.0.0.1:3300, [fd99::2]:6789 cannot be reached: its monitors answer, its OSDs do not; `ceph health detail` tells more: "},
		{"another reason", "unsupported configuration", time.Second, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			said := libvirt.Error{Message: test.said}
			err := explainStart(cephRBD, said, test.took)
			if got, want := err.Error(), test.want+test.said; got != want {
				t.Errorf("%s\nwant\n%s", got, want)
			}
			if !errors.As(err, &libvirt.Error{}) {
				t.Error("libvirt's error is not in it")
			}
		})
	}
	if err := explainDefine(libvirt.Error{Message: noDriver}); !strings.Contains(err.Error(), "install libvirt-daemon-driver-storage-rbd") {
		t.Errorf("%v, want it to say what is to be installed", err)
	}
	if err := explainDefine(nil); err != nil {
		t.Errorf("a definition without an error is told as %v", err)
	}
	if err := explainStart(cephRBD, nil, time.Minute); err != nil {
		t.Errorf("a start without an error is told as %v", err)
	}
}

func TestAPoolThatIsSomethingElseIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		is   domxml.Pool
		says []string // none: it is the pool
	}{
		{"another type", domxml.Pool{Type: "dir", Path: "/srv"}, []string{"of type dir", "says pool vms of a Ceph cluster"}},
		{"another pool of Ceph", domxml.Pool{Type: "rbd", RBD: vm.RBD{Pool: "other"}}, []string{"pool other of a Ceph cluster", "says pool vms"}},
		{"the pool, reached otherwise", domxml.Pool{Type: "rbd", RBD: vm.RBD{Pool: "vms", User: "admin"}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := sameCephPool(test.is, cephRBD)
			if (err != nil) != (len(test.says) > 0) {
				t.Fatalf("%v, want an error: %t", err, len(test.says) > 0)
			}
			for _, says := range test.says {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("%v, want it to say %q", err, says)
				}
			}
		})
	}
}

func TestOneAtATimeTellsLibvirtOfAPool(t *testing.T) {
	h := mustNew(t, "test:///default")
	pool := h.poolWork("ceph")
	if h.poolWork("ceph") != pool || h.poolWork("other") == pool {
		t.Fatal("a pool is not told from others by its name")
	}
	over, err := h.poolTurn(t.Context(), "ceph")
	must(t, err)
	_, err = h.poolTurn(within(t, 50*time.Millisecond), "ceph")
	mustSay(t, err, "storage pool ceph is being started", context.DeadlineExceeded.Error())
	over()
	over, err = h.poolTurn(t.Context(), "ceph")
	must(t, err)
	over()
}

func TestRefreshesThatAreAskedForMeanwhileAreOne(t *testing.T) {
	now := told{client: &libvirt.Libvirt{}, rbd: cephRBD, key: "a"}
	pool := (&Host{pools: make(map[string]*poolWork)}).poolWork("ceph")
	pool.tell(now)
	mustRefresh := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: %t, want %t", what, got, want)
		}
	}
	mustRefresh("the first has to see to it", pool.askRefresh(), true)
	mustRefresh("one who asks before it has begun has not", pool.askRefresh(), false)
	mustRefresh("it begins", pool.beginRefresh(), true)
	mustRefresh("one who asks meanwhile has not", pool.askRefresh(), false)
	mustRefresh("nor has the next", pool.askRefresh(), false)
	pool.endRefresh()
	mustRefresh("there is one for both", pool.beginRefresh(), true)
	pool.endRefresh()
	mustRefresh("and no other", pool.beginRefresh(), false)
	mustRefresh("who asks then has to see to it", pool.askRefresh(), true)
}

func TestAPoolIsKnownToRunWhileItIsRefreshed(t *testing.T) {
	now := told{client: &libvirt.Libvirt{}, rbd: cephRBD, key: "a"}
	pool := (&Host{pools: make(map[string]*poolWork)}).poolWork("ceph")
	pool.tell(now)
	if pool.runs(now) {
		t.Error("it is taken to run though nothing tells so")
	}
	pool.askRefresh()
	pool.beginRefresh()
	if !pool.runs(now) {
		t.Error("libvirt would be asked of a pool that it refreshes, and answer when that is done")
	}
	for what, change := range map[string]func(*told){
		"another connection": func(n *told) { n.client = &libvirt.Libvirt{} },
		"another key":        func(n *told) { n.key = "b" },
		"another user":       func(n *told) { n.rbd.User = "admin" },
		"other monitors":     func(n *told) { n.rbd.Monitors = n.rbd.Monitors[:1] },
		"another secret":     func(n *told) { n.rbd.Secret = "" },
	} {
		other := now
		change(&other)
		if pool.runs(other) {
			t.Errorf("%s: libvirt is not told of it", what)
		}
	}
	pool.endRefresh()
	if pool.runs(now) {
		t.Error("after the refresh it is taken to run")
	}
}
