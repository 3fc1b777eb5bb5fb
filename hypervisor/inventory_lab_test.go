//go:build lab

package hypervisor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

func TestVMsAreThoseOfTheDriverWithTheirStates(t *testing.T) {
	h := connected(t, system)
	must(t, h.Define(t.Context(), machine(t, h, "hyp-vms-off")))
	started(t, h, "hyp-vms-paused")
	must(t, h.Suspend(t.Context(), "hyp-vms-paused"))
	started(t, h, "hyp-vms-running")
	defineForeign(t, "hyp-vms-foreign")

	vms, err := h.VMs(t.Context())
	must(t, err)
	got := make(map[string]string)
	for _, v := range vms {
		if strings.HasPrefix(v.Name, "hyp-vms-") {
			got[v.Name] = v.State
			if v.Journal.Owner.Alloc != alloc {
				t.Errorf("VM %s is of allocation %q, want %q", v.Name, v.Journal.Owner.Alloc, alloc)
			}
		}
	}
	want := map[string]string{"hyp-vms-off": "shut off", "hyp-vms-paused": "paused", "hyp-vms-running": "running"}
	if len(got) != len(want) {
		t.Errorf("the VMs are %v, want %v", got, want)
	}
	for name, state := range want {
		if got[name] != state {
			t.Errorf("VM %s is %q, want %q", name, got[name], state)
		}
	}
}

func TestWhatLibvirtHasIsLookedAtAndLeft(t *testing.T) {
	h := connected(t, system)
	qemu, err := h.QEMU(t.Context())
	must(t, err)
	if _, err := os.Stat(qemu.Emulator); err != nil || qemu.User != 0 || len(qemu.Confined) > 0 {
		t.Errorf("the lab's QEMU is %+v, %v, want one that runs as root, by nothing confined", qemu, err)
	}

	networks, err := h.NetworkStates(t.Context())
	must(t, err)
	if len(networks) != 1 || networks[0].Name != "default" || networks[0].Bridge != "virbr0" || !networks[0].Active {
		t.Errorf("the networks are %+v, want the lab's one, which runs", networks)
	}

	name, path := newPool(t, h)
	look := func(path string, want PoolState) {
		t.Helper()
		if got, err := h.DirectoryPool(t.Context(), name, path); err != nil || got != want {
			t.Errorf("pool %s is %+v, %v, want %+v", name, got, err, want)
		}
	}
	look(path, PoolState{Defined: true, Active: true})
	virsh(t, "pool-destroy", name)
	look(path, PoolState{Defined: true})
	if all, err := h.PoolPaths(t.Context()); err != nil || all[path] != name {
		t.Errorf("at %s there is pool %q, %v, want %s though it does not run", path, all[path], err, name)
	}
	if _, err := h.DirectoryPool(t.Context(), name, "/elsewhere"); err == nil || !strings.Contains(err.Error(), "says /elsewhere") {
		t.Errorf("a pool that is elsewhere: %v, want an error that says so", err)
	}
	missing := filepath.Join(path, "missing")
	if got, err := h.DirectoryPool(t.Context(), name+"-none", missing); err != nil || got.Defined {
		t.Errorf("a pool that there is not: %+v, %v", got, err)
	}
	mustExist(t, missing, false)

	r := vm.RBD{Pool: "nomad-pool"}
	var other OtherPoolError
	if _, err := h.CephPool(t.Context(), name, r); !errors.As(err, &other) || !strings.Contains(err.Error(), "of type dir") {
		t.Errorf("a directory by the name of a pool in Ceph: %v, want an error that says so", err)
	}
	if got, err := h.CephPool(t.Context(), name+"-none", r); err != nil || got.Defined {
		t.Errorf("a pool in Ceph that there is not: %+v, %v", got, err)
	}
	types, err := h.PoolTypes(t.Context())
	if err != nil || !slices.Contains(types, "dir") || !slices.Contains(types, "rbd") || slices.Contains(types, "sheepdog") {
		t.Errorf("libvirt has pools of types %q, %v, want dir and rbd, and no sheepdog", types, err)
	}
}

// screen is what a console has shown.
type screen struct {
	mu   sync.Mutex // guards the buffer
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) shows(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

func mustShow(t *testing.T, s *screen, text string) {
	t.Helper()
	ctx := within(t, boots)
	for tick := time.NewTicker(100 * time.Millisecond); !s.shows(text); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the console does not show %q", text)
		}
	}
}

func TestConsoleAndUsageOfAGuest(t *testing.T) {
	h := connected(t, system)
	s := machine(t, h, "hyp-console")
	tiny(t, s)
	s.Interfaces = []vm.Interface{{Bridge: "virbr0", MAC: "52:54:00:12:34:57"}}
	must(t, h.Define(t.Context(), s))
	must(t, h.Start(t.Context(), s.Name))
	must(t, h.Resume(t.Context(), s.Name))

	keys, typed := io.Pipe()
	defer typed.Close()
	shown, over := new(screen), make(chan error, 1)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	go func() { over <- h.Console(ctx, s.Name, keys, shown, false) }()
	mustShow(t, shown, "tiny: ")
	enter := func(text string) {
		t.Helper()
		_, err := io.WriteString(typed, text)
		must(t, err)
	}
	mustShow(t, shown, "tiny: up")
	enter("\n")
	enter("echo $((6*7))7\n")
	mustShow(t, shown, "427")

	all, err := h.Usage(t.Context())
	must(t, err)
	used := all[s.Name]
	if used.CPU == 0 || used.RSS < 64*vm.MiB || used.VCPUs != 1 || used.Memory != s.Memory {
		t.Errorf("the usage is %+v, want time of the CPU, memory and one vCPU", used)
	}
	if len(used.Disks) == 0 || used.Disks[0].Name != "vda" || used.Disks[0].Read < vm.MiB || used.Disks[0].Capacity == 0 {
		t.Errorf("the disks are %+v, want vda, which was read", used.Disks)
	}
	if len(used.Interfaces) != 1 || !strings.HasPrefix(used.Interfaces[0].Name, "vnet") || used.Interfaces[0].Sent == 0 {
		t.Errorf("the interfaces are %+v, want one by which the guest has asked for an address", used.Interfaces)
	}

	none := strings.NewReader("")
	if err := h.Console(t.Context(), s.Name, none, io.Discard, false); err == nil || !strings.Contains(err.Error(), "Active console session") {
		t.Errorf("a second one at the console is told %v, want that there is one already", err)
	}
	leave()
	select {
	case err := <-over:
		if err != nil {
			t.Errorf("who leaves a console is told %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the console is not left")
	}
	err = h.Console(t.Context(), "hyp-none", keys, shown, false)
	if err == nil || !strings.Contains(err.Error(), "no such domain") {
		t.Errorf("the console of no VM: %v", err)
	}
}
