//go:build lab

package hypervisor

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// These tests run inside the lab, on its Ceph:
// lab/lab ceph-start; lab/lab run go test -tags lab ./hypervisor

// cephAdmin runs a program of Ceph that may do all.
func cephAdmin(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, append([]string{"-c", "/run/lab/ceph/ceph.conf"}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		errors.As(err, &exit)
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out))
}

// newCephPool returns a name for a pool of this test alone that is the lab's
// pool of Ceph, and the key of its client.
func newCephPool(t *testing.T) (name string, r vm.RBD, key string) {
	t.Helper()
	file, err := os.ReadFile("/run/lab/ceph/nomad.key")
	if err != nil {
		t.Fatalf("the lab has no Ceph, run lab/lab ceph-start: %v", err)
	}
	name = "ceph-" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	r = vm.RBD{Pool: "nomad-pool", Monitors: []string{"10.99.0.2:3300"}, User: "nomad", Secret: domxml.SecretUUID(name)}
	t.Cleanup(func() {
		for _, args := range [][]string{{"pool-destroy", name}, {"pool-undefine", name}, {"secret-undefine", r.Secret}} {
			_ = exec.Command("virsh", append([]string{"-q"}, args...)...).Run() // a test may not have come so far
		}
	})
	return name, r, string(file)
}

// mustUse has libvirt itself use what it was told of a pool.
func mustUse(t *testing.T, pool string) {
	t.Helper()
	virsh(t, "pool-refresh", pool)
}

func mustList(t *testing.T, pool, volume string) {
	t.Helper()
	eventually(t, 10*time.Second, "virsh lists "+volume, func() bool { return strings.Contains(virsh(t, "vol-list", pool), volume) })
}

func TestEnsureCephPool(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	for range 2 {
		must(t, h.EnsureCephPool(t.Context(), name, r, key))
	}
	info := strings.Join(strings.Fields(virsh(t, "pool-info", name)), " ")
	for _, want := range []string{"State: running", "Autostart: no", "Persistent: yes"} {
		if !strings.Contains(info, want) {
			t.Errorf("the pool is %q, want %q", info, want)
		}
	}
	if secrets := virsh(t, "secret-list"); !strings.Contains(secrets, r.Secret) || !strings.Contains(secrets, domxml.SecretUsage(name)) {
		t.Errorf("the secrets are\n%s, want %s", secrets, r.Secret)
	}
	if out, err := exec.Command("virsh", "-q", "secret-get-value", r.Secret).CombinedOutput(); err == nil {
		t.Errorf("libvirt tells the key to whoever asks: %s", out)
	}
	if document := virsh(t, "pool-dumpxml", name); !strings.Contains(document, "name='client_mount_timeout' value='10'") {
		t.Errorf("the pool is\n%s, want that it waits for Ceph for 10 s", document)
	}

	virsh(t, "pool-destroy", name)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	mustUse(t, name)
	virsh(t, "pool-destroy", name)
	virsh(t, "secret-undefine", r.Secret)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	mustUse(t, name)
}

func TestRefreshPool(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	for _, volume := range []string{"refresh-a", "refresh-b"} {
		cephAdmin(t, "rbd", "create", "--size", "1M", "nomad-pool/"+volume)
		t.Cleanup(func() { cephAdmin(t, "rbd", "rm", "--no-progress", "nomad-pool/"+volume) })
		if list := virsh(t, "vol-list", name); strings.Contains(list, volume) {
			t.Fatalf("libvirt lists\n%s, without being told: this test tells nothing", list)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h.RefreshPool(ctx, name)
		h.RefreshPool(ctx, name)
		cancel() // of whoever asked for it
		mustList(t, name, volume)
		must(t, h.EnsureCephPool(t.Context(), name, r, key))
	}
	h.RefreshPool(t.Context(), "no such pool") // is nobody's loss
}

func TestTheSecretFollowsTheKey(t *testing.T) {
	h := connected(t, system)
	name, r, _ := newCephPool(t)
	newKey := func() string {
		cephAdmin(t, "ceph", "auth", "get-or-create", "client.follows", "mon", "profile rbd", "osd", "profile rbd pool=nomad-pool")
		t.Cleanup(func() { cephAdmin(t, "ceph", "auth", "rm", "client.follows") })
		return cephAdmin(t, "ceph", "auth", "print-key", "client.follows")
	}
	r.User = "follows"
	first := newKey()
	must(t, h.EnsureCephPool(t.Context(), name, r, first))

	cephAdmin(t, "ceph", "auth", "rm", "client.follows")
	second := newKey()
	if first == second {
		t.Fatal("Ceph has given the same key again: this test tells nothing")
	}
	must(t, h.EnsureCephPool(t.Context(), name, r, second+"\n"))
	mustUse(t, name)

	virsh(t, "pool-destroy", name)
	mustSay(t, h.EnsureCephPool(t.Context(), name, r, first), "does not let client.follows in")
	must(t, h.EnsureCephPool(t.Context(), name, r, second))
	mustUse(t, name)

	// Somebody else meddles: that is seen by whoever comes with a new connection.
	command := exec.Command("virsh", "-q", "secret-set-value", r.Secret, "--file", "/dev/stdin")
	command.Stdin = strings.NewReader(first)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, h.EnsureCephPool(t.Context(), name, r, second))
	must(t, connected(t, system).EnsureCephPool(t.Context(), name, r, second))
	mustUse(t, name)
}

func TestACephPoolThatIsReachedOtherwiseIsDefinedAnew(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	for _, test := range []struct {
		name   string
		change func()
		want   string
	}{
		{"another port", func() { r.Monitors = []string{"10.99.0.2:6789"} }, "<host name='10.99.0.2' port='6789'/>"},
		{"IPv6, and a monitor that is away", func() { r.Monitors = []string{"10.99.0.2:6790", "[fd99::2]:3300"} }, "<host name='fd99::2' port='3300'/>"},
		{"another user", func() {
			r.User = "admin"
			key = cephAdmin(t, "ceph", "auth", "print-key", "client.admin")
		}, "username='admin'"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.change()
			must(t, h.EnsureCephPool(t.Context(), name, r, key))
			if document := virsh(t, "pool-dumpxml", name); !strings.Contains(document, test.want) {
				t.Errorf("the pool is\n%s, want %s", document, test.want)
			}
			mustUse(t, name)
		})
	}
}

func TestAnotherPoolOfThatNameIsLeftAlone(t *testing.T) {
	h := connected(t, system)
	_, r, key := newCephPool(t)
	directory, _ := newPool(t, h)
	before := virsh(t, "pool-dumpxml", directory)
	mustSay(t, h.EnsureCephPool(t.Context(), directory, r, key), "defining storage pool "+directory, "of type dir", "pool nomad-pool of a Ceph cluster")
	if after := virsh(t, "pool-dumpxml", directory); after != before {
		t.Errorf("it was changed to\n%s", after)
	}

	name, r, key := newCephPool(t)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	r.Pool = "other-pool"
	mustSay(t, h.EnsureCephPool(t.Context(), name, r, key), "pool nomad-pool of a Ceph cluster", "pool other-pool of a Ceph cluster")
	mustUse(t, name)
}

func TestAnotherSecretForThePoolIsTold(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	r.Secret = domxml.SecretUUID("another")
	mustSay(t, h.EnsureCephPool(t.Context(), name, r, key), "libvirt has another secret", domxml.SecretUsage(name), "virsh secret-undefine ")
}

func TestWhatCephRefusesIsTold(t *testing.T) {
	h := connected(t, system)
	for _, test := range []struct {
		name   string
		change func(r *vm.RBD, key *string)
		says   string
	}{
		{"no-such-pool", func(r *vm.RBD, _ *string) { r.Pool = "none" }, "make it by `ceph osd pool create none`"},
		{"wrong-key", func(_ *vm.RBD, key *string) { *key = "AQCJ5MtoAAAAABAAKnQ9mZzLq7d0Vq6fJ8pP6w==" }, "does not let client.nomad in"},
		{"unknown-user", func(r *vm.RBD, _ *string) { r.User = "nobody" }, "does not let client.nobody in"},
		{"no-key", func(_ *vm.RBD, key *string) { *key = "my secret" }, "is not what `ceph auth print-key client.nomad` writes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name, r, key := newCephPool(t)
			test.change(&r, &key)
			err := h.EnsureCephPool(t.Context(), name, r, key)
			mustSay(t, err, test.says)
			if err != nil && strings.Contains(err.Error(), strings.TrimSpace(key)) {
				t.Errorf("%v: it prints the key", err)
			}
		})
	}
}

func TestLibvirtIsNotAskedForACephThatIsAway(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	for _, monitors := range [][]string{{"10.99.0.2:6790", "[fd99::2]:6790"}, {"10.99.0.77:3300"}} {
		r.Monitors = monitors
		began := time.Now()
		err := h.EnsureCephPool(t.Context(), name, r, key)
		mustSay(t, err, "Ceph pool nomad-pool at monitors "+strings.Join(monitors, ", ")+" cannot be reached", "is Ceph up")
		if took := time.Since(began); took > dialTimeout+5*time.Second {
			t.Errorf("it takes %s, want %s", took, dialTimeout)
		}
		if info := virsh(t, "pool-info", name); !strings.Contains(info, "inactive") {
			t.Errorf("the pool is\n%s, want it inactive", info)
		}
	}
}

// silentMonitor takes connections and does not answer.
func silentMonitor(t *testing.T) (address string, connections func() int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var mu sync.Mutex
	var taken []net.Conn
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range taken {
			conn.Close()
		}
	})
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			taken = append(taken, conn)
			mu.Unlock()
		}
	}()
	return listener.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(taken)
	}
}

func TestLibvirtWaitsForASilentMonitorOnceAtATime(t *testing.T) {
	h := connected(t, system)
	name, r, key := newCephPool(t)
	monitor, connections := silentMonitor(t)
	r.Monitors = []string{monitor}

	impatient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	mustSay(t, h.EnsureCephPool(impatient, name, r, key), "cannot be reached, libvirt still waits for it")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("a call of 5 s takes %s", took)
	}
	before := connections()
	if before < 2 {
		t.Fatalf("the monitor has had %d connections, want this process's and libvirt's: this test tells nothing", before)
	}
	impatient, cancel = context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	mustSay(t, h.EnsureCephPool(impatient, name, r, key), "storage pool "+name+" is being started")

	// Who waits gets a turn when libvirt has given up, and libvirt's own answer.
	mustSay(t, h.EnsureCephPool(t.Context(), name, r, key), "starting storage pool "+name, "its monitors take connections and do not answer")
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("two attempts take %s, want 10 s each", took)
	}

	r.Monitors = []string{"10.99.0.2:3300"}
	must(t, h.EnsureCephPool(t.Context(), name, r, key))
	mustUse(t, name)
}
