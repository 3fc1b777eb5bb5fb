//go:build lab

package hypervisor

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hang has the QEMU of a domain do nothing until the test is over.
func hang(t *testing.T, name string) {
	t.Helper()
	text, err := os.ReadFile("/run/libvirt/qemu/" + name + ".pid")
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// What libvirt asks of a QEMU that hangs it waits for as long as that takes.
func TestQEMUThatHangsHoldsUpNoOther(t *testing.T) {
	h := connected(t, system)
	well := started(t, h, "hyp-well")
	hanging, giveUp := context.WithCancel(t.Context())
	answers := make(chan error)
	const hung = mostCalls + 1
	for i := range hung {
		name := fmt.Sprint("hyp-hung-", i)
		started(t, h, name)
		hang(t, name)
		go func() { answers <- h.Suspend(hanging, name) }()
		eventually(t, 10*time.Second, "libvirt waits for "+name, func() bool {
			return strings.HasPrefix(virsh(t, "domcontrol", name), "occupied")
		})
	}
	must(t, h.Suspend(within(t, 5*time.Second), well.Name))
	_, err := h.VMs(within(t, 5*time.Second))
	must(t, err)
	mustSay(t, h.Resume(within(t, 100*time.Millisecond), "hyp-hung-0"), "resuming domain hyp-hung-0: libvirt still does what was asked of it before")
	giveUp()
	for range hung {
		mustSay(t, <-answers, "libvirt did not answer", context.Canceled.Error())
	}
}

func TestConnectionsThatWereOfUseAreNoErrorsToLibvirt(t *testing.T) {
	h := connected(t, system)
	s := started(t, h, "hyp-polite")
	broken := func() int {
		text, err := os.ReadFile("/var/log/libvirt/libvirtd.log")
		must(t, err)
		return strings.Count(string(text), "End of file while reading data")
	}
	before := broken()
	for range 10 {
		must(t, h.Suspend(t.Context(), s.Name))
		must(t, h.Resume(t.Context(), s.Name))
	}
	if after := broken(); after != before {
		t.Errorf("libvirt has logged %d errors about connections that ended, want none", after-before)
	}
}
