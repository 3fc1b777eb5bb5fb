//go:build lab

package image

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// What the lab's Ceph is reached by.
const (
	cephConfig = "/run/lab/ceph/ceph.conf"
	cephKey    = "/run/lab/ceph/nomad.key"
)

// ceph starts the lab's Ceph, and stops it again if nobody had started it.
func ceph(t *testing.T) {
	t.Helper()
	if _, err := rbd("ls", "nomad-pool"); err == nil {
		return
	}
	run(t, "../lab/lab", "ceph-start")
	t.Cleanup(func() { run(t, "../lab/lab", "ceph-stop") })
}

func rbd(args ...string) (string, error) {
	args = append([]string{"-c", cephConfig, "--id", "nomad", "--client-mount-timeout", "5"}, args...)
	out, err := exec.Command("rbd", args...).CombinedOutput()
	return string(out), err
}

// newRBD makes an empty volume in the lab's Ceph pool.
func newRBD(t *testing.T, size string) vm.Volume {
	t.Helper()
	to := vm.Volume{Pool: "ceph", Name: "image, of " + filepath.Base(t.TempDir()), Format: Raw,
		RBD: &vm.RBD{Pool: "nomad-pool", User: "nomad", Monitors: []string{"10.99.0.2:3300", "[fd99::2]:3300"}}}
	if out, err := rbd("create", "--size", size, "nomad-pool/"+to.Name); err != nil {
		t.Fatal(out)
	}
	t.Cleanup(func() {
		if out, err := rbd("rm", "--no-progress", "nomad-pool/"+to.Name); err != nil {
			t.Error(out)
		}
	})
	return to
}

func key(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(string(content(t, cephKey)))
}

func TestFillFillsAnRBDImage(t *testing.T) {
	ceph(t)
	raw := rawImage(t)
	all := images(t)
	for name, path := range map[string]string{"raw": raw, "qcow2": all["qcow2"], "vmdk": all["streamed vmdk"]} {
		t.Run(name, func(t *testing.T) {
			file, image := inspected(t, path)
			to := newRBD(t, "64M")
			needs, err := Needs(context.Background(), file, image, to)
			if err != nil || needs != 0 {
				t.Errorf("it needs %s of a directory, %v, want nothing", needs, err)
			}
			var done []float64
			tell := func(d float64) { done = append(done, d) }
			err = Fill(context.Background(), Copy{File: file, Image: image, To: to, Key: key(t), Progress: tell})
			if err != nil {
				t.Fatal(err)
			}
			judgeProgress(t, done)
			exported := filepath.Join(t.TempDir(), "exported")
			if out, err := rbd("export", "--no-progress", "nomad-pool/"+to.Name, exported); err != nil {
				t.Fatal(out)
			}
			tool(t, "compare", "-f", image.Format, "-F", "raw", path, exported)
			if size := len(content(t, exported)); size != int(64*vm.MiB) {
				t.Errorf("the volume is of %d bytes, want 64 MiB", size)
			}
			out, err := rbd("du", "--format", "json", "nomad-pool/"+to.Name)
			if err != nil || !strings.Contains(out, `"used_size":8388608`) {
				t.Errorf("it uses %s, %v, want the 2 objects of 4 MiB that have data", out, err)
			}
		})
	}
}

// The import takes seconds, in which all processes are looked at.
func TestKeyIsSeenByNobody(t *testing.T) {
	ceph(t)
	path := filepath.Join(t.TempDir(), "image.img")
	if err := os.WriteFile(path, noise("key", 128*vm.MiB), 0o600); err != nil {
		t.Fatal(err)
	}
	file, image := inspected(t, path)
	to := newRBD(t, "128M")
	secret := key(t)
	ended := make(chan error, 1)
	go func() { ended <- Fill(context.Background(), Copy{File: file, Image: image, To: to, Key: secret}) }()
	seen := 0
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
			if seen == 0 {
				t.Error("no qemu-img was seen at work")
			}
			return
		case <-time.After(5 * time.Millisecond):
		}
		for pid, cmdline := range cmdlines(t) {
			environ, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ")) // it may have ended
			if strings.Contains(cmdline, secret) || strings.Contains(string(environ), secret) {
				t.Fatalf("process %d shows the key: %q", pid, cmdline)
			}
			if strings.Contains(cmdline, "qemu-img") {
				seen++
			}
		}
	}
}

func TestFailureOfCephIsUnderstood(t *testing.T) {
	ceph(t)
	file, image := inspected(t, rawImage(t))
	there := newRBD(t, "4M")
	for name, test := range map[string]struct {
		change func(*Copy)
		want   string
	}{
		"a volume that is smaller":          {func(*Copy) {}, "small"},
		"a volume that does not exist":      {func(c *Copy) { c.To.Name = "none" }, "No such file or directory"},
		"a pool that does not exist":        {func(c *Copy) { c.To.RBD.Pool = "none" }, "No such file or directory"},
		"a key of nobody's":                 {func(c *Copy) { c.Key = "AQD" + strings.Repeat("A", 37) }, "error connecting"},
		"a key that is none":                {func(c *Copy) { c.Key = "no-secret" }, "ceph auth get-key client.nomad"},
		"no key":                            {func(c *Copy) { c.Key = "" }, "ceph auth get-key client.nomad"},
		"a client that does not exist":      {func(c *Copy) { c.To.RBD.User = "nobody" }, "error connecting"},
		"a volume that is said to be qcow2": {func(c *Copy) { c.To.Format = Qcow2 }, "a volume of a Ceph pool is raw"},
		"a monitor without a port":          {func(c *Copy) { c.To.RBD.Monitors = []string{"10.99.0.2"} }, `"10.99.0.2"`},
	} {
		t.Run(name, func(t *testing.T) {
			pool := *there.RBD
			c := Copy{File: file, Image: image, To: there, Key: key(t)}
			c.To.RBD = &pool
			secret := c.Key
			test.change(&c)
			err := Fill(context.Background(), c)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("the error is %v, want one that says %q", err, test.want)
			}
			t.Log(err)
			for _, said := range []string{secret, c.Key} {
				if said != "" && strings.Contains(err.Error(), said) {
					t.Errorf("the error tells the key: %v", err)
				}
			}
		})
	}
}

func TestFillOfCephThatDoesNotAnswerIsGivenUp(t *testing.T) {
	ceph(t)
	file, image := inspected(t, rawImage(t))
	to := newRBD(t, "8M")
	to.RBD.Monitors = []string{"10.99.0.2:1"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	began := time.Now()
	err := Fill(ctx, Copy{File: file, Image: image, To: to, Key: key(t)})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want that of the deadline", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it is given up after %s, want 1 s", took)
	}
}
