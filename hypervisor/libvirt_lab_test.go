//go:build lab

package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// These tests run inside the lab: lab/lab run go test -tags lab ./hypervisor

const (
	system = "qemu:///system"
	alloc  = "8f2c1d6e-3a4b-4c5d-9e6f-7a8b9c0d1e2f"
)

// connected returns the lab's libvirt.
func connected(t *testing.T, uri string) *Host {
	t.Helper()
	h, _ := run(t, uri)
	must(t, h.Health(within(t, 10*time.Second)))
	return h
}

func virsh(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("virsh", append([]string{"-q", "-c", system}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("virsh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newPool returns a storage pool in a directory of its own.
func newPool(t *testing.T, h *Host) (name, path string) {
	t.Helper()
	path = t.TempDir()
	name = strings.ReplaceAll(strings.TrimPrefix(path, os.TempDir()+"/"), "/", "-")
	must(t, h.EnsureDirectoryPool(t.Context(), name, path))
	t.Cleanup(func() {
		_ = exec.Command("virsh", "-q", "pool-destroy", name).Run() // a test may have stopped it
		virsh(t, "pool-undefine", name)
	})
	return name, path
}

func volumeIn(pool, dir, name string) vm.Volume {
	return vm.Volume{Pool: pool, Name: name, Path: filepath.Join(dir, name), Format: "qcow2", Size: 8 * vm.MiB, Sparse: true}
}

// machine returns a VM whose disk is empty: its firmware finds nothing to boot,
// and waits.
func machine(t *testing.T, h *Host, name string) *vm.Spec {
	t.Helper()
	pool, dir := newPool(t, h)
	s := &vm.Spec{
		Name:  name,
		Owner: vm.Owner{Namespace: "default", Job: "job", Group: "group", Task: "task", Alloc: alloc, TaskID: alloc + "/task/5a6e215e"},
		Accel: vm.TCG, CPUModel: vm.CPUMaximum, Arch: "x86_64", VCPUs: 1, Memory: 64 * vm.MiB,
		Disks:      []vm.Disk{{Volume: volumeIn(pool, dir, name+".qcow2"), Device: "vda", Bus: "virtio"}},
		Interfaces: []vm.Interface{{Bridge: "virbr0", Network: "default", MAC: "52:54:00:12:34:56"}},
		SeedVolume: volumeIn(pool, dir, name+"-seed.img"),
	}
	s.SeedVolume.Format = "raw"
	for _, v := range s.Volumes() {
		must(t, h.CreateVolume(t.Context(), v, nil))
	}
	t.Cleanup(func() {
		ctx := context.Background() // the test's own has ended
		if err := h.Destroy(ctx, name); err != nil {
			t.Error(err)
		}
		if err := h.Undefine(ctx, name); err != nil {
			t.Error(err)
		}
		for _, v := range s.Volumes() {
			if err := h.RemoveVolume(ctx, v); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func started(t *testing.T, h *Host, name string) *vm.Spec {
	t.Helper()
	s := machine(t, h, name)
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), name))
	must(t, h.Resume(t.Context(), name))
	return s
}

func mustRun(t *testing.T, h *Host, name string, want bool) {
	t.Helper()
	if got, err := h.Running(t.Context(), name); err != nil || got != want {
		t.Errorf("Running(%s) = %t, %v, want %t", name, got, err, want)
	}
}

func mustBe(t *testing.T, name, want string) {
	t.Helper()
	if got := strings.TrimSpace(virsh(t, "domstate", name)); got != want {
		t.Errorf("libvirt says that %s is %s, want %s", name, got, want)
	}
}

func TestDomainLife(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-life")
	ctx := t.Context()

	must(t, h.Define(ctx, s))
	mustRun(t, h, s.Name, false)
	// A name is one VM's: what an earlier start left has to be removed first.
	mustSay(t, h.Define(ctx, s), "defining domain "+s.Name, "already exists")
	must(t, h.Destroy(ctx, s.Name)) // it does not run
	must(t, h.Start(ctx, s.Name))
	mustRun(t, h, s.Name, true)
	mustBe(t, s.Name, "paused")
	must(t, h.Resume(ctx, s.Name))
	mustBe(t, s.Name, "running")
	mustSay(t, h.Start(ctx, s.Name), "starting domain "+s.Name, "already running")
	if way, err := h.Shutdown(ctx, s.Name); err != nil || way != ByPowerButton {
		t.Fatalf("a guest without an agent: %v, %v, want its power button pressed", way, err)
	}
	mustRun(t, h, s.Name, true)
	for range 2 {
		must(t, h.Destroy(ctx, s.Name))
		mustRun(t, h, s.Name, false)
	}
	for range 2 {
		must(t, h.Undefine(ctx, s.Name))
	}
	if names := virsh(t, "list", "--all", "--name"); strings.Contains(names, s.Name) {
		t.Errorf("it is there still: %s", names)
	}
}

func TestStopIsNotedInTheDomain(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-stop")
	if by, err := h.StopNoted(t.Context(), s.Name); err != nil || !by.IsZero() {
		t.Errorf("before the stop: %s, %v, want nothing", by, err)
	}
	want := time.Now().Add(time.Minute)
	must(t, h.NoteStop(t.Context(), s.Name, want))
	next := connected(t, system)
	if by, err := next.StopNoted(t.Context(), s.Name); err != nil || !by.Equal(want) {
		t.Errorf("noted is %s, %v, want %s", by, err, want)
	}
	if j, err := h.Journal(t.Context(), s.Name); err != nil || j.Owner != s.Owner {
		t.Errorf("the journal is %v, %v, want what it was", j, err)
	}
}

func TestCPUSharesAreSetWhereLibvirtCan(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-shares")
	shares := func() string {
		t.Helper()
		for line := range strings.Lines(virsh(t, "schedinfo", s.Name)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "cpu_shares" {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	was := shares()
	must(t, h.SetCPUShares(t.Context(), s.Name, 0))
	if got := shares(); got != was {
		t.Errorf("none are asked for, and there are %s, want %s as before", got, was)
	}
	want := uint64(500)
	if isUnified(cgroups) {
		want = weightOf(want)
	}
	must(t, h.SetCPUShares(t.Context(), s.Name, 500))
	if got := shares(); got != fmt.Sprint(want) {
		t.Errorf("500 are asked for, and there are %s, want %d", got, want)
	}
	// It does not run: libvirt refuses, and the start does not fail for that.
	must(t, h.Destroy(t.Context(), s.Name))
	must(t, h.SetCPUShares(t.Context(), s.Name, 500))
}

func TestUnknownDomain(t *testing.T) {
	h := connected(t, system)
	const name = "hyp-unknown"
	_, running := h.Running(t.Context(), name)
	_, journal := h.Journal(t.Context(), name)
	for call, err := range map[string]error{
		"Running":          running,
		"Journal":          journal,
		"Start":            h.Start(t.Context(), name),
		"Resume":           h.Resume(t.Context(), name),
		"Shutdown":         func() error { _, err := h.Shutdown(t.Context(), name); return err }(),
		"PressPowerButton": h.PressPowerButton(t.Context(), name),
	} {
		if !errors.Is(err, ErrNoDomain) {
			t.Errorf("%s: %v, want %v", call, err, ErrNoDomain)
		}
		mustSay(t, err, name)
	}
	must(t, h.Destroy(t.Context(), name))
	must(t, h.Undefine(t.Context(), name))
}

func TestJournalComesBackFromLibvirt(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-journal")
	hostile := `it's <a> "b" & späßig 日本 🐧`
	s.Owner.Job, s.Owner.Group, s.Owner.Task = hostile, hostile, hostile
	s.Interfaces = append(s.Interfaces, vm.Interface{Bridge: "br-lan", MAC: "52:54:00:12:34:57"})
	must(t, h.Define(t.Context(), s))

	got, err := h.Journal(t.Context(), s.Name)
	must(t, err)
	want := domxml.Journal{Owner: s.Owner, Disks: make(map[string]vm.Volume)}
	for _, v := range s.Volumes() {
		noted := vm.Volume{Pool: v.Pool, Name: v.Name, Path: v.Path}
		want.Volumes = append(want.Volumes, noted)
		for _, d := range s.Disks {
			if d.Volume.Name == v.Name {
				want.Disks[d.Device] = noted
			}
		}
	}
	for _, i := range s.Interfaces {
		want.Interfaces = append(want.Interfaces, vm.Interface{Network: i.Network, MAC: i.MAC, Bridge: i.Bridge})
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// defineForeign defines a domain that is somebody else's.
func defineForeign(t *testing.T, name string, devices ...string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "domain.xml")
	const domain = "<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>%s</devices></domain>"
	must(t, os.WriteFile(file, fmt.Appendf(nil, domain, name, strings.Join(devices, "")), 0o600))
	virsh(t, "define", file)
	t.Cleanup(func() {
		_ = exec.Command("virsh", "-q", "destroy", name).Run() // a test may have started it
		_ = exec.Command("virsh", "-q", "undefine", name).Run()
	})
}

func TestOwnedFindsItsOwnAlone(t *testing.T) {
	h := connected(t, system)
	for name, change := range map[string]func(*vm.Owner){
		"hyp-owned-1":       func(*vm.Owner) {},
		"hyp-owned-2":       func(o *vm.Owner) { o.TaskID = alloc + "/task/22222222" },
		"hyp-owned-alloc":   func(o *vm.Owner) { o.Alloc = "another" },
		"hyp-owned-task":    func(o *vm.Owner) { o.Task = "another" },
		"hyp-other-prefix":  func(*vm.Owner) {},
		"prefix-hyp-owned-": func(*vm.Owner) {},
	} {
		s := machine(t, h, name)
		change(&s.Owner)
		must(t, h.Define(t.Context(), s))
	}
	defineForeign(t, "hyp-owned-foreign")
	// Domains that somebody has undefined while they run have their journal still,
	// and others' are no obstacle.
	defineForeign(t, "hyp-owned-passing")
	for _, name := range []string{"hyp-owned-2", "hyp-owned-passing"} {
		virsh(t, "start", name)
		virsh(t, "undefine", name)
	}

	got, _, err := h.Owned(t.Context(), func(name string) bool { return strings.HasPrefix(name, "hyp-owned-") }, ofTheTask)
	must(t, err)
	slices.Sort(got)
	if diff := cmp.Diff([]string{"hyp-owned-1", "hyp-owned-2"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = h.Journal(t.Context(), "hyp-owned-foreign")
	if !errors.Is(err, ErrNoDomain) {
		t.Errorf("the journal of a domain that is not ours: %v, want %v", err, ErrNoDomain)
	}
}

func ofTheTask(o vm.Owner) bool { return o.Alloc == alloc && o.Task == "task" }

// end is what WaitEnd returned, and when.
type end struct {
	exit vm.Exit
	err  error
	at   time.Time
}

// watchIdly leaves a guest to itself.
func watchIdly(context.Context, Guest) time.Duration { return 0 }

// waiting calls WaitEnd, and returns when it has nothing to do but wait.
func waiting(ctx context.Context, t *testing.T, h *Host, name string) <-chan end {
	t.Helper()
	ended := make(chan end, 1)
	go func() {
		exit, err := h.WaitEnd(ctx, name, watchIdly)
		ended <- end{exit, err, time.Now()}
	}()
	eventually(t, 5*time.Second, "WaitEnd waits for news", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.watches) > 0
	})
	return ended
}

func mustEnd(t *testing.T, ended <-chan end, since time.Time, code int) {
	t.Helper()
	select {
	case e := <-ended:
		must(t, e.err)
		if took := e.at.Sub(since); took > time.Second {
			t.Errorf("it is told %s after the end", took)
		}
		if e.exit.Code != code {
			t.Errorf("code %d (%v), want %d", e.exit.Code, e.exit.Err, code)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("WaitEnd has not returned 5 s after the end")
	}
}

func TestWaitEndTellsAtOnce(t *testing.T) {
	h := connected(t, system)
	for _, test := range []struct {
		name string
		end  func(name string)
		code int
	}{
		{"virsh destroy", func(name string) { virsh(t, "destroy", name) }, exitKilled},
		{"Destroy", func(name string) { must(t, h.Destroy(t.Context(), name)) }, exitKilled},
		{"QEMU is killed", func(name string) {
			pid, err := os.ReadFile(filepath.Join("/run/libvirt/qemu", name+".pid"))
			must(t, err)
			must(t, exec.Command("kill", "-KILL", strings.TrimSpace(string(pid))).Run())
		}, exitFailed},
		{"the domain is forgotten too", func(name string) {
			virsh(t, "undefine", name)
			virsh(t, "destroy", name)
		}, exitKilled},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := started(t, h, "hyp-end")
			ended := waiting(t.Context(), t, h, s.Name)
			test.end(s.Name)
			mustEnd(t, ended, time.Now(), test.code)

			// Asked once it is over, it says the same.
			exit, err := h.WaitEnd(within(t, 5*time.Second), s.Name, watchIdly)
			if err != nil || exit.Code != test.code {
				t.Errorf("afterwards code %d, %v, want %d", exit.Code, err, test.code)
			}
		})
	}
}

func TestWaitEndEndsWithItsContext(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-context")
	ctx, cancel := context.WithCancel(t.Context())
	ended := waiting(ctx, t, h, s.Name)
	cancel()
	if e := <-ended; !errors.Is(e.err, context.Canceled) {
		t.Errorf("the error is %v, want the context's", e.err)
	}
	mustRun(t, h, s.Name, true)
}

// lab runs a command of the lab that this runs in.
func lab(t *testing.T, command string) {
	t.Helper()
	cmd := exec.Command("../lab/lab", command)
	cmd.Env = append(os.Environ(), "LAB_NAME="+os.Getenv("LAB_INSIDE"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("lab %s: %v\n%s", command, err, out)
	}
}

func TestWaitEndOutlastsLibvirt(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-restart")
	ended := waiting(t.Context(), t, h, s.Name)

	t.Cleanup(func() { lab(t, "libvirt-start") })
	lab(t, "libvirt-stop")
	eventually(t, 5*time.Second, "the loss is noticed", func() bool { return h.Health(t.Context()) != nil })
	lab(t, "libvirt-start")
	eventually(t, 4*reconnectEvery, "libvirt answers again", func() bool { return h.Health(t.Context()) == nil })
	mustRun(t, h, s.Name, true)
	select {
	case e := <-ended:
		t.Fatalf("libvirt's absence is taken for the end of the VM: %+v", e)
	default:
	}
	virsh(t, "destroy", s.Name)
	mustEnd(t, ended, time.Now(), exitKilled)
}

// frozenRelay passes on what is said to libvirt until freeze is called, which
// has it keep silent, as a libvirtd that hangs does.
func frozenRelay(t *testing.T) (uri string, freeze func()) {
	t.Helper()
	var frozen atomic.Bool
	uri, _ = fakeLibvirt(t, func(_ int32, conn net.Conn) {
		defer conn.Close()
		libvirtd, err := net.Dial("unix", "/run/libvirt/libvirt-sock")
		if err != nil {
			return
		}
		defer libvirtd.Close()
		go func() { _, _ = io.Copy(&valve{libvirtd, &frozen}, conn) }()
		_, _ = io.Copy(&valve{conn, &frozen}, libvirtd)
	})
	return uri, func() { frozen.Store(true) }
}

// valve drops what is written to it when it is shut.
type valve struct {
	io.Writer
	shut *atomic.Bool
}

func (v *valve) Write(p []byte) (int, error) {
	if v.shut.Load() {
		return len(p), nil
	}
	return v.Writer.Write(p)
}

func TestLibvirtThatFallsSilentIsNoticed(t *testing.T) {
	uri, freeze := frozenRelay(t)
	h := connected(t, uri)
	freeze()
	start := time.Now()
	_, err := h.Running(within(t, 200*time.Millisecond), "vm")
	mustSay(t, err, "reading the state of domain vm", "libvirt did not answer")
	if took := time.Since(start); took > time.Second {
		t.Errorf("a call of 200 ms takes %s", took)
	}
	eventually(t, 2*pingEvery+5*time.Second, "Health tells", func() bool { return h.Health(t.Context()) != nil })
	mustSay(t, h.Health(t.Context()), "has not answered")
}

func TestRunLeavesNothingOfAConnection(t *testing.T) {
	before := runtime.NumGoroutine()
	h, end := run(t, system)
	must(t, h.Health(within(t, 10*time.Second)))
	if took := end(); took > time.Second {
		t.Errorf("Run returns %s after its context has ended, want at once", took)
	}
	eventually(t, 5*time.Second, "its goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

func TestEnsureDirectoryPool(t *testing.T) {
	h := connected(t, system)
	name, path := newPool(t, h)
	must(t, h.EnsureDirectoryPool(t.Context(), name, path+"/"))
	for _, want := range []string{"State: running", "Autostart: yes", "Persistent: yes"} {
		if info := strings.Join(strings.Fields(virsh(t, "pool-info", name)), " "); !strings.Contains(info, want) {
			t.Errorf("the pool is %q, want %q", info, want)
		}
	}

	virsh(t, "pool-destroy", name)
	must(t, os.Remove(path))
	mustSay(t, h.EnsureDirectoryPool(t.Context(), name, path), name, path, "not there", "mount")
	mustExist(t, path, false) // it would hide what comes back with a file system
	must(t, os.Mkdir(path, 0o711))

	started := make(chan error)
	for range 8 {
		go func() { started <- h.EnsureDirectoryPool(t.Context(), name, path) }()
	}
	for range 8 {
		must(t, <-started)
	}

	other := t.TempDir()
	mustSay(t, h.EnsureDirectoryPool(t.Context(), name, other), name, path, other)
}

func mustExist(t *testing.T, path string, want bool) {
	t.Helper()
	if _, err := os.Stat(path); (err == nil) != want {
		t.Errorf("%s: %v, want it there: %t", path, err, want)
	}
}

func TestVolumes(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	ctx := t.Context()
	base, overlay, full := volumeIn(pool, dir, "base.qcow2"), volumeIn(pool, dir, "overlay.qcow2"), volumeIn(pool, dir, "full.img")
	overlay.Size = 16 * vm.MiB
	full.Format, full.Sparse = "raw", false

	must(t, h.CreateVolume(ctx, base, nil))
	must(t, h.CreateVolume(ctx, overlay, &base))
	must(t, h.CreateVolume(ctx, full, nil))
	mustSay(t, h.CreateVolume(ctx, full, nil), "creating volume full.img of 8MiB in storage pool "+pool, "exists already")

	info, err := exec.Command("qemu-img", "info", overlay.Path).Output()
	must(t, err)
	for _, want := range []string{"16 MiB (16777216 bytes)", "backing file: " + base.Path, "backing file format: qcow2"} {
		if !strings.Contains(string(info), want) {
			t.Errorf("the overlay is not %q:\n%s", want, info)
		}
	}
	usage, err := exec.Command("du", "-B1M", full.Path).Output()
	must(t, err)
	if !strings.HasPrefix(string(usage), "8\t") {
		t.Errorf("a volume of 8MiB that is not sparse takes (MiB) %s", usage)
	}
	for _, v := range []vm.Volume{base, overlay, full} {
		if file, err := os.Stat(v.Path); err != nil || file.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v, want 0600", v.Name, file.Mode(), err)
		}
		for range 2 {
			must(t, h.RemoveVolume(ctx, v))
			mustExist(t, v.Path, false)
		}
	}
}

func TestRemoveVolumeThatLibvirtDoesNotKnow(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	for name, prepare := range map[string]func(v *vm.Volume){
		"a file that was put there": func(v *vm.Volume) { must(t, os.WriteFile(v.Path, nil, 0o600)) },
		"of no pool": func(v *vm.Volume) {
			v.Pool = "hyp-no-pool"
			must(t, os.WriteFile(v.Path, nil, 0o600))
		},
		"of a stopped pool": func(v *vm.Volume) {
			must(t, h.CreateVolume(t.Context(), *v, nil))
			virsh(t, "pool-destroy", pool)
		},
		"whose file is gone": func(v *vm.Volume) {
			must(t, h.CreateVolume(t.Context(), *v, nil))
			must(t, os.Remove(v.Path))
		},
		"of no pool, whose directory is gone": func(v *vm.Volume) {
			v.Pool, v.Path = "hyp-no-pool", filepath.Join(dir, "gone", v.Name)
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, h.EnsureDirectoryPool(t.Context(), pool, dir))
			v := volumeIn(pool, dir, strings.ReplaceAll(name, " ", "-"))
			prepare(&v)
			for range 2 {
				if err := h.RemoveVolume(t.Context(), v); err != nil {
					t.Error(err)
				}
				mustExist(t, v.Path, false)
			}
		})
	}
}

// A volume that cannot be seen is not one that is not there.
func TestVolumeOfAPoolWhoseDirectoryIsAwayIsNotRemoved(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	v := volumeIn(pool, dir, "away.qcow2")
	must(t, h.CreateVolume(t.Context(), v, nil))
	virsh(t, "pool-destroy", pool)
	must(t, os.Rename(dir, dir+"-away"))
	mustSay(t, h.RemoveVolume(t.Context(), v), v.Name, pool, dir, "mounted")
	must(t, os.Rename(dir+"-away", dir))
	must(t, h.RemoveVolume(t.Context(), v))
	mustExist(t, v.Path, false)
}

func TestRefreshPoolListsWhatOthersHaveChanged(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	was, is := volumeIn(pool, dir, "was.qcow2"), volumeIn(pool, dir, "is.qcow2")
	must(t, h.CreateVolume(t.Context(), was, nil))
	must(t, os.Rename(was.Path, is.Path))
	h.RefreshPool(t.Context(), pool)
	mustList(t, pool, is.Name)
	if volumes := virsh(t, "vol-list", pool); strings.Contains(volumes, was.Name) {
		t.Errorf("libvirt lists\n%s, want %s alone", volumes, is.Name)
	}
	h.RefreshPool(t.Context(), "no such pool") // is nobody's loss
}

func TestRefreshPoolOutlastsLibvirtsOwnWorkInThePool(t *testing.T) {
	h := connected(t, system)
	pool, dir := newPool(t, h)
	was, is := volumeIn(pool, dir, "was.qcow2"), volumeIn(pool, dir, "is.qcow2")
	must(t, h.CreateVolume(t.Context(), was, nil))
	must(t, os.WriteFile(filepath.Join(dir, "large"), make([]byte, 256*vm.MiB), 0o600))
	virsh(t, "pool-refresh", pool)
	clone := exec.Command("virsh", "vol-clone", "--pool", pool, "large", "copy")
	must(t, clone.Start())
	defer func() { must(t, clone.Wait()) }()
	eventually(t, 10*time.Second, "libvirt declines to refresh the pool", func() bool {
		out, _ := exec.Command("virsh", "pool-refresh", pool).CombinedOutput()
		return strings.Contains(string(out), "asynchronous jobs running")
	})
	must(t, os.Rename(was.Path, is.Path))
	h.RefreshPool(t.Context(), pool)
	mustList(t, pool, is.Name)
}

// reserve reserves an address, and waits until DHCP gives it out.
func reserve(t *testing.T, h *Host, network, mac string) (netip.Addr, error) {
	t.Helper()
	addr, wait, err := h.Reserve(t.Context(), network, mac, netip.Addr{})
	if err == nil {
		err = wait()
	}
	return addr, err
}

// mustBeReserved tells what libvirt's network is, now and at its next start.
func mustBeReserved(t *testing.T, mac string, want bool) {
	t.Helper()
	for _, which := range [][]string{{"net-dumpxml", "default"}, {"net-dumpxml", "default", "--inactive"}} {
		if got := strings.Contains(virsh(t, which...), mac); got != want {
			t.Errorf("%s reserved in %q: %t, want %t", mac, which, got, want)
		}
	}
}

func TestReserve(t *testing.T) {
	h := connected(t, system)
	const many = 12
	addrs := make([]netip.Addr, many)
	mac := func(i int) string { return fmt.Sprintf("52:54:00:77:00:%02x", i) }
	t.Cleanup(func() {
		for i := range many {
			if err := h.Release(context.Background(), "default", mac(i)); err != nil {
				t.Error(err)
			}
		}
	})

	var all sync.WaitGroup
	for i := range many {
		all.Go(func() {
			addr, err := reserve(t, h, "default", mac(i))
			if err != nil {
				t.Error(err)
			}
			addrs[i] = addr
		})
	}
	all.Wait()
	owner := make(map[netip.Addr]string)
	for i, addr := range addrs {
		if other, taken := owner[addr]; taken {
			t.Errorf("%s is reserved for %s and for %s", addr, other, mac(i))
		}
		owner[addr] = mac(i)
		mustBeReserved(t, mac(i), true)
	}

	again, err := reserve(t, h, "default", strings.ToUpper(mac(10)))
	if err != nil || again != addrs[10] {
		t.Errorf("asked again: %s, %v, want %s", again, err, addrs[10])
	}
	for range 2 {
		must(t, h.Release(t.Context(), "default", mac(3)))
		mustBeReserved(t, mac(3), false)
	}
	if back, err := reserve(t, h, "default", mac(3)); err != nil || back != addrs[3] {
		t.Errorf("reserved again: %s, %v, want %s as before", back, err, addrs[3])
	}
}

func TestReserveInAnUnknownNetwork(t *testing.T) {
	h := connected(t, system)
	_, err := reserve(t, h, "hyp-none", "52:54:00:77:00:01")
	mustSay(t, err, "an address in network hyp-none", "not found")
	must(t, h.Release(t.Context(), "hyp-none", "52:54:00:77:00:01"))
}

func TestNetworkFilterThatIsNotThere(t *testing.T) {
	h := connected(t, system)
	mustSay(t, h.HasNWFilter(t.Context(), "hyp-none"), `libvirt has no network filter "hyp-none"`, "virsh nwfilter-list")
}

func TestFacts(t *testing.T) {
	h := connected(t, system)
	facts, err := h.Facts(t.Context(), "", "")
	must(t, err)
	if facts.Arch != "x86_64" || facts.Accel != vm.TCG || !facts.VirtioFS || facts.QEMUUser != "0" {
		t.Errorf("the host is %+v, want x86_64 with TCG and virtiofs, and QEMU to be root", facts)
	}
	for machine, ide := range map[string]bool{"pc": true, "q35": false} {
		of, err := h.Facts(t.Context(), "", machine)
		must(t, err)
		if slices.Contains(of.Buses, "ide") != ide || !slices.Contains(of.Buses, "virtio") {
			t.Errorf("disks of a %s can be on %q, want virtio among them, and ide: %t", machine, of.Buses, ide)
		}
	}
	at := slices.IndexFunc(facts.Networks, func(n domxml.Network) bool { return n.Name == "default" })
	if at < 0 || facts.Networks[at].Bridge != "virbr0" || len(facts.Networks[at].Ranges) != 1 {
		t.Errorf("the networks are %+v, want default on virbr0 with a DHCP range", facts.Networks)
	}
	_, err = h.Facts(t.Context(), "", "hyp-machine")
	mustSay(t, err, "hyp-machine")
	_, err = h.Facts(t.Context(), "hyp-arch", "")
	mustSay(t, err, "hyp-arch")
	_, err = h.Facts(t.Context(), "aarch64", "raspi3b")
	mustSay(t, err, "no UEFI firmware for aarch64 guests of machine type raspi3b")
}

// isBoard tells the machine types that are boards there are, of which a newer QEMU
// has versions, too.
func isBoard(machine string) bool { return strings.HasSuffix(machine, "-evb") }

func TestGuestsOfOtherArchitectures(t *testing.T) {
	h := connected(t, system)
	guests, err := h.Guests(t.Context())
	must(t, err)
	var got []string
	for _, g := range guests {
		usual := slices.DeleteFunc(slices.Clone(g.Usual), isBoard)
		got = append(got, fmt.Sprintf("%s %s %q", g.Arch, g.Accel, usual))
		if !slices.Contains(g.Machines, g.Usual[0]) {
			t.Errorf("the machine types of %s are %q, want %s among them", g.Arch, g.Machines, g.Usual[0])
		}
	}
	want := []string{`x86_64 qemu ["pc" "q35"]`, `aarch64 qemu ["virt"]`, `i686 qemu ["pc" "q35"]`}
	if !slices.Equal(got, want) {
		t.Errorf("guests can be %q, want %q", got, want)
	}
	facts, err := h.Facts(t.Context(), "aarch64", "")
	must(t, err)
	if facts.Arch != "aarch64" || facts.Native || facts.Machine != "virt" || facts.Accel != vm.TCG {
		t.Errorf("without a machine type a guest for ARM is %+v, want a virt by TCG", facts)
	}
}

// UEFI keeps its settings in a file of each domain's.
func TestFirmwareSettingsGoWithTheDomain(t *testing.T) {
	h := connected(t, system)
	for _, test := range []struct {
		name, arch, machine, cpu string
		vcpus, settings          int
	}{
		{"hyp-i686", "i686", "", vm.CPUMaximum, 1, 0},
		{"hyp-arm", "aarch64", "virt", "cortex-a72", 9, 1}, // CPUs: more than GIC 2 can have
	} {
		t.Run(test.name, func(t *testing.T) {
			s := machine(t, h, test.name)
			s.Arch, s.Machine, s.CPUModel, s.VCPUs = test.arch, test.machine, test.cpu, test.vcpus
			settings := func() []string {
				found, _ := filepath.Glob("/var/lib/libvirt/qemu/nvram/" + test.name + "*")
				return found
			}
			must(t, h.Define(t.Context(), s))
			must(t, h.Start(t.Context(), test.name))
			if found := settings(); len(found) != test.settings {
				t.Errorf("while the domain runs there are %q, want %d files", found, test.settings)
			}
			must(t, h.Destroy(t.Context(), test.name))
			must(t, h.Undefine(t.Context(), test.name))
			if found := settings(); len(found) != 0 {
				t.Errorf("the domain is gone, and left %q", found)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	h := connected(t, system)
	libvirt, qemu, err := h.Versions(t.Context())
	must(t, err)
	told := virsh(t, "version")
	for _, want := range []string{"Using library: libvirt " + libvirt.String(), "Running hypervisor: QEMU " + qemu.String()} {
		if !strings.Contains(told, want) {
			t.Errorf("virsh tells\n%s, want %q", told, want)
		}
	}
}

// testDriver is libvirt's own driver for tests, which needs no QEMU: a domain
// "test" runs, and all is forgotten with the last connection.
const testDriver = "test:///default"

func TestDomainsWithoutQEMU(t *testing.T) {
	h := connected(t, testDriver)
	ctx := t.Context()
	if _, _, err := h.Versions(ctx); err != nil {
		t.Error(err)
	}

	const name = "test"
	mustRun(t, h, name, true)
	ended := waiting(ctx, t, h, name)
	must(t, h.Destroy(ctx, name))
	mustEnd(t, ended, time.Now(), exitKilled)
	must(t, h.Destroy(ctx, name))
	mustRun(t, h, name, false)

	s := &vm.Spec{
		Name: "hyp-test", Owner: vm.Owner{Alloc: alloc, Task: "task"},
		Accel: "test", CPUModel: vm.CPUMaximum, Arch: "i686", VCPUs: 1, Memory: 64 * vm.MiB,
		SeedVolume: vm.Volume{Pool: "default-pool", Name: "seed.img", Path: "/default-pool/seed.img", Format: "raw"},
	}
	must(t, h.Define(ctx, s))
	if j, err := h.Journal(ctx, s.Name); err != nil || j.Owner != s.Owner {
		t.Errorf("the journal tells of %+v, %v, want %+v", j.Owner, err, s.Owner)
	}
	if got, _, err := h.Owned(ctx, func(string) bool { return true }, ofTheTask); err != nil || !slices.Equal(got, []string{s.Name}) {
		t.Errorf("Owned = %q, %v, want %s", got, err, s.Name)
	}
}
