package hypervisor

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/vm"
)

func TestExitOf(t *testing.T) {
	off := func(reason libvirt.DomainShutoffReason) domainState {
		return domainState{libvirt.DomainShutoff, int32(reason)}
	}
	for _, test := range []struct {
		name         string
		state        domainState
		code, signal int
		says         string // of the error; "": there is none
	}{
		{"the guest powered off", off(libvirt.DomainShutoffShutdown), 0, 0, ""},
		{"destroyed", off(libvirt.DomainShutoffDestroyed), 137, 9, "virsh destroy"},
		{"QEMU was killed", off(libvirt.DomainShutoffCrashed), 1, 0, "QEMU crashed or was killed"},
		{"QEMU did not start", off(libvirt.DomainShutoffFailed), 1, 0, "QEMU crashed or was killed"},
		{"the guest panicked", domainState{libvirt.DomainCrashed, int32(libvirt.DomainCrashedPanicked)}, 1, 0, "the guest panicked"},
		{"migrated", off(libvirt.DomainShutoffMigrated), 1, 0, "migrated"},
		{"saved", off(libvirt.DomainShutoffSaved), 1, 0, "saved"},
		{"while libvirt was away", off(libvirt.DomainShutoffUnknown), 1, 0, "not known"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exit := exitOf(test.state)
			mustExit(t, exit, test.code, test.signal, test.says)
			if time.Since(exit.EndedAt) > time.Minute {
				t.Errorf("it ended at %s, want now", exit.EndedAt)
			}
		})
	}
}

func mustExit(t *testing.T, exit vm.Exit, code, signal int, says string) {
	t.Helper()
	if exit.Code != code || exit.Signal != signal {
		t.Errorf("code %d and signal %d, want %d and %d", exit.Code, exit.Signal, code, signal)
	}
	switch {
	case says == "" && exit.Err != nil:
		t.Errorf("error %v, want none", exit.Err)
	case says != "" && (exit.Err == nil || !strings.Contains(exit.Err.Error(), says)):
		t.Errorf("error %v, want one that says %q", exit.Err, says)
	}
}

func TestCrashIsExplained(t *testing.T) {
	exit := vm.Exit{Code: 1, Err: errCrashed}
	mustExit(t, crashed(exit, "", false), 1, 0, "without a word")
	mustExit(t, crashed(exit, "Assertion failed", false), 1, 0, "its last words: Assertion failed")
	killed := crashed(exit, "", true)
	mustExit(t, killed, 137, 9, "no memory left")
	if !killed.OOMKilled {
		t.Error("it is not marked as killed for want of memory")
	}
}

const qemuLog = `2026-11-25 17:39:26.411+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22
LC_ALL=C \
PATH=/usr/sbin \
/usr/bin/qemu-system-x86_64 \
-name guest=web,debug-threads=on \
-msg timestamp=on
2026-11-25 17:39:26.540+0000: Domain id=2 is tainted: high-privileges
char device redirected to /dev/pts/0 (label charserial0)
`

func TestWordsOf(t *testing.T) {
	const down = "2026-11-25 17:39:30.000+0000: shutting down, reason=crashed\n"
	for _, test := range []struct{ name, log, want string }{
		{"nothing", "", ""},
		{"it said nothing", qemuLog + down, ""},
		{"killed politely",
			qemuLog + "2026-11-25T17:39:30.966853Z qemu-system-x86_64: terminating on signal 15 from pid 499 (kill)\n" + down,
			"qemu-system-x86_64: terminating on signal 15 from pid 499 (kill)"},
		{"an assertion, which has no time before it",
			qemuLog + "qemu-system-x86_64: ../block.c:1: main: Assertion `bs' failed.\n" + down,
			"qemu-system-x86_64: ../block.c:1: main: Assertion `bs' failed."},
		{"the last three", qemuLog + "one\ntwo\nthree\nfour\n" + down, "two; three; four"},
		{"those of an earlier QEMU are not its", "old words\n" + qemuLog + down, ""},
		{
			"warnings are none",
			qemuLog + "qemu-system-x86_64: -fsdev local,readonly: warning: short-form boolean option 'readonly' deprecated\n" +
				"Please use readonly=on instead\n" + down, "",
		},
		{"a long line", qemuLog + strings.Repeat("x", 1000) + "\n", strings.Repeat("x", 300)},
		{"what is no text", qemuLog + "\xff\xfe\n", "?"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := wordsOf(test.log); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestLastWordsAreThoseOfTheDomain(t *testing.T) {
	was := qemuLogs
	qemuLogs = t.TempDir()
	t.Cleanup(func() { qemuLogs = was })
	for name, said := range map[string]string{"web": "of the web", "db": strings.Repeat("long ago\n", 10000) + "of the database"} {
		if err := os.WriteFile(filepath.Join(qemuLogs, name+".log"), []byte(qemuLog+said+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"web": "of the web", "db": "long ago; long ago; of the database", "none": ""} {
		if got := lastWords(t.Context(), name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestKillsForMemoryAreTold(t *testing.T) {
	const begin = "6,5841,15076816654,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=emulator,mems_allowed=0,oom_memcg=/machine,task_memcg="
	const end = ",task=qemu-system-x86,pid=12,uid=0\n"
	for _, test := range []struct {
		name, message string
		want          bool
	}{
		{"libvirt's own group", begin + "/machine/qemu-2-vm-task-f82d9b23.libvirt-qemu" + end, true},
		{"one below it", begin + "/machine/qemu-2-vm-task-f82d9b23.libvirt-qemu/emulator" + end, true},
		{"a scope of systemd's", begin + `/machine.slice/machine-qemu\x2d2\x2dvm\x2dtask\x2df82d9b23.scope/libvirt/emulator` + end, true},
		{"as the kernel's log has it", begin + `/machine.slice/machine-qemu\x5cx2d2\x5cx2dvm\x5cx2dtask\x5cx2df82d9b23.scope` + end, true},
		{"another's", begin + "/machine/qemu-2-other-vm-task-f82d9b23.libvirt-qemu" + end, false},
		{"one that begins with the name", begin + "/machine/qemu-2-vm-task-f82d9b23-2.libvirt-qemu" + end, false},
		{"of a group, which is not who was killed", strings.Replace(begin, "oom_memcg=/machine", "oom_memcg=/machine/qemu-2-vm-task-f82d9b23.libvirt-qemu", 1) + "/nomad" + end, false},
		{"another message", "6,1,1,-;task_memcg=/machine/qemu-2-vm-task-f82d9b23.libvirt-qemu,task=", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := isKillOf("vm-task-f82d9b23", test.message); got != test.want {
				t.Errorf("%t, want %t", got, test.want)
			}
		})
	}
}

func TestMachineNamesAreLibvirts(t *testing.T) {
	long := strings.Repeat("n", 63) + "-5a6e215e"
	for name, want := range map[string]string{
		"vm-task-f82d9b23":  "qemu-12-vm-task-f82d9b23",
		"my_vm-f82d9b23":    "qemu-12-myvm-f82d9b23",
		"a--b.-c-f82d9b23":  "qemu-12-a-b.c-f82d9b23",
		long:                "qemu-12-" + strings.Repeat("n", 56),
		"_-f82d9b23":        "qemu-12--f82d9b23",
		"trailing.f82d9b2-": "qemu-12-trailing.f82d9b2",
	} {
		got, isCut := machineName("12", name)
		if got != want || isCut != (name == long) {
			t.Errorf("%s is machine %s, cut: %t, want %s", name, got, isCut, want)
		}
	}
	// A name that was cut may be another's of before.
	const message = ",-;oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/machine/"
	group, _ := machineName("12", long)
	if isKillOf(long, "6,1,1"+message+group+".libvirt-qemu,task=qemu") && !isRecent("6,1,1,-;") {
		t.Error("a kill of long ago is taken for that of a name that was cut")
	}
	if !isKillOf(long, "6,1,9000000000000000"+message+group+".libvirt-qemu,task=qemu") {
		t.Error("a kill of a name that was cut is not seen")
	}
}

func TestWhatCannotBeReadHasNotEnded(t *testing.T) {
	if _, ended := exitFor(domainState{}, errors.New("libvirt is away")); ended {
		t.Error("it is taken to have ended")
	}
	exit, ended := exitFor(domainState{}, ErrNoDomain)
	if !ended {
		t.Error("a domain that is gone is taken to run")
	}
	mustExit(t, exit, 137, 9, "another hand")
}
