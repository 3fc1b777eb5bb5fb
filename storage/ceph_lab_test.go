//go:build lab

package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/image"
	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

// startedCeph tells that a test began the lab's Ceph, which takes a while.
var startedCeph bool

func TestMain(m *testing.M) {
	code := m.Run()
	if startedCeph {
		if out, err := exec.Command("../lab/lab", "ceph-stop").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ceph-stop: %v\n%s", err, out)
			code = 1
		}
	}
	os.Exit(code)
}

const cephFiles = "/run/lab/ceph/"

// cephTool runs rbd as the driver's user, by the lab's own configuration.
func cephTool(args ...string) ([]byte, error) {
	return exec.Command("rbd", append([]string{"-c", cephFiles + "ceph.conf", "--id", "nomad", "--client-mount-timeout", "5"}, args...)...).Output()
}

// realCeph is the lab's pool in Ceph, which is started where it does not run.
func realCeph(t *testing.T) underTest {
	t.Helper()
	if _, err := cephTool("ls", "nomad-pool"); err != nil {
		startedCeph = true
		run(t, "../lab/lab", "ceph-start")
	}
	key, err := os.ReadFile(cephFiles + "nomad.key")
	must(t, err)
	// Nomad's driver may have it run: libvirt takes a pool of Ceph by one name.
	c := &Ceph{Host: libvirt(t), Name: "ceph", RBD: rbd.Pool{
		RBD: vm.RBD{Pool: "nomad-pool", Monitors: []string{"10.99.0.2:3300"}, User: "nomad", Secret: domxml.SecretUUID("ceph")},
		Key: strings.TrimSpace(string(key)),
	}}
	must(t, c.Ensure(t.Context()))
	return underTest{
		Pool:   c,
		name:   "ceph",
		format: image.Raw,
		place: func(v vm.Volume) vm.Volume {
			v.RBD = &c.RBD.RBD
			return v
		},
		read: func(t *testing.T, v vm.Volume) []byte {
			t.Helper()
			content, err := cephTool("export", "--no-progress", "nomad-pool/"+v.Name, "-")
			must(t, err)
			return content
		},
	}
}

func TestCephIsAPool(t *testing.T) { testPool(t, realCeph(t)) }

// admin runs a program of Ceph's as its administrator.
func admin(t *testing.T, args ...string) string {
	t.Helper()
	return run(t, args[0], append([]string{"-c", cephFiles + "ceph.conf"}, args[1:]...)...)
}

// QEMU waits for as long as Ceph takes no data: what waits for it is not to.
func TestCephThatFillsUpWhileAnImageIsCopied(t *testing.T) {
	p := realCeph(t)
	file, img := qcow2Image(t, data('f', 8*mib))
	v := p.volume("storage-full", 8*mib)
	p.removeLater(t, v)
	full := func() bool { return p.Pool.(*Ceph).RBD.Full(context.Background()) != nil }
	ratios := func(nearfull, backfillfull, full string) {
		admin(t, "ceph", "osd", "set-nearfull-ratio", nearfull)
		admin(t, "ceph", "osd", "set-backfillfull-ratio", backfillfull)
		admin(t, "ceph", "osd", "set-full-ratio", full)
	}
	t.Cleanup(func() {
		ratios("0.73", "0.74", "0.75") // as in lab/lib/ceph.sh
		waitFor(t, time.Minute, "the pool takes data again", func() bool { return !full() })
	})
	var filled time.Time
	err := importing(t, p.Pool, image.Copy{File: file, Image: img, To: v}, func() {
		ratios("0.0001", "0.0002", "0.0003")
		waitFor(t, time.Minute, "the pool is full", full)
		filled = time.Now()
	})
	if !errors.Is(err, rbd.ErrFull) || !strings.Contains(err.Error(), "Ceph pool nomad-pool is full") {
		t.Errorf("the error is %v, want that the pool is full", err)
	}
	if took := time.Since(filled); took > 2*watchEvery {
		t.Errorf("it is told after %s, want within %s", took, 2*watchEvery)
	}
}

func TestCephThatGoesAwayWhileAnImageIsCopied(t *testing.T) {
	p := realCeph(t)
	file, img := qcow2Image(t, data('f', 8*mib))
	v := p.volume("storage-away", 8*mib)
	p.removeLater(t, v)
	var away time.Time
	err := importing(t, p.Pool, image.Copy{File: file, Image: img, To: v}, func() {
		t.Cleanup(func() { run(t, "../lab/lab", "ceph-start") })
		run(t, "../lab/lab", "ceph-break")
		away = time.Now()
	})
	if !errors.Is(err, rbd.ErrUnreachable) || !strings.Contains(err.Error(), "10.99.0.2:3300") {
		t.Errorf("the error is %v, want that the monitors cannot be reached, and which", err)
	}
	if took := time.Since(away); took > time.Minute {
		t.Errorf("it is told after %s, want within a minute", took)
	}
}
