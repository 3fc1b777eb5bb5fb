package hypervisor

import (
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
)

func TestExitOf(t *testing.T) {
	for _, test := range []struct {
		name         string
		state        libvirt.DomainState
		reason       libvirt.DomainShutoffReason
		code, signal int
		says         string // of the error; "": there is none
	}{
		{"the guest powered off", libvirt.DomainShutoff, libvirt.DomainShutoffShutdown, 0, 0, ""},
		{"destroyed", libvirt.DomainShutoff, libvirt.DomainShutoffDestroyed, 137, 9, "virsh destroy"},
		{"QEMU was killed", libvirt.DomainShutoff, libvirt.DomainShutoffCrashed, 1, 0, "/var/log/libvirt/qemu/"},
		{"QEMU did not start", libvirt.DomainShutoff, libvirt.DomainShutoffFailed, 1, 0, "/var/log/libvirt/qemu/"},
		{"the guest panicked", libvirt.DomainCrashed, libvirt.DomainShutoffReason(libvirt.DomainCrashedPanicked), 1, 0, "crashed"},
		{"migrated", libvirt.DomainShutoff, libvirt.DomainShutoffMigrated, 1, 0, "migrated"},
		{"saved", libvirt.DomainShutoff, libvirt.DomainShutoffSaved, 1, 0, "saved"},
		{"while libvirt was away", libvirt.DomainShutoff, libvirt.DomainShutoffUnknown, 1, 0, "not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exit := exitOf(test.state, test.reason)
			if exit.Code != test.code || exit.Signal != test.signal {
				t.Errorf("code %d and signal %d, want %d and %d", exit.Code, exit.Signal, test.code, test.signal)
			}
			switch {
			case test.says == "" && exit.Err != nil:
				t.Errorf("error %v, want none", exit.Err)
			case test.says != "" && (exit.Err == nil || !strings.Contains(exit.Err.Error(), test.says)):
				t.Errorf("error %v, want one that says %q", exit.Err, test.says)
			}
			if time.Since(exit.EndedAt) > time.Minute {
				t.Errorf("it ended at %s, want now", exit.EndedAt)
			}
		})
	}
}
