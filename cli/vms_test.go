package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const (
	first  = "c20ee15a-6d3c-4a9e-8f3e-2b1f0d4c7a55"
	second = "c2f00000-6d3c-4a9e-8f3e-2b1f0d4c7a55"
)

func vmOf(name, alloc, task string) hypervisor.VM {
	return hypervisor.VM{Name: name, State: "running", Journal: domxml.Journal{Owner: vm.Owner{
		Namespace: "default", Job: "web", Group: "g", Alloc: alloc, Task: task, TaskID: alloc + "/" + task + "/5a6e215e", Node: "n",
	}}}
}

var vms = []hypervisor.VM{vmOf("a-1", first, "a"), vmOf("b-1", first, "b"), vmOf("a-2", second, "a")}

func TestVMsAreChosenByAllocationAndTask(t *testing.T) {
	const head = "NAMESPACE  JOB  GROUP  ALLOC     TASK  VM   STATE\n"
	const (
		lineA1 = "default    web  g      c20ee15a  a     a-1  running"
		lineB1 = "default    web  g      c20ee15a  b     b-1  running"
		lineA2 = "default    web  g      c2f00000  a     a-2  running"
	)
	for _, test := range []struct {
		name, alloc, task string
		of                []hypervisor.VM
		want, wrong       string
	}{
		{name: "an allocation with one task", alloc: "c2f", of: vms, want: "a-2"},
		{name: "a whole ID", alloc: second, of: vms, want: "a-2"},
		{name: "an allocation and a task", alloc: "c20", task: "b", of: vms, want: "b-1"},
		{
			name: "an allocation with two tasks", alloc: "c20", of: vms,
			wrong: "2 VMs are of allocation \"c20\", name more of the allocation's ID, or the task:\n" + head + lineA1 + "\n" + lineB1,
		},
		{
			name: "two allocations", alloc: "c2", task: "a", of: vms,
			wrong: "2 VMs are of allocation \"c2\" and task \"a\", name more of the allocation's ID, or the task:\n" + head + lineA1 + "\n" + lineA2,
		},
		{
			name: "another", alloc: "d", of: vms[2:],
			wrong: "no VM of this host is of allocation \"d\"; there are:\n" + head + lineA2,
		},
		{name: "none at all", alloc: "d", wrong: "no VM of this host is of allocation \"d\"; there is none at all"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := one(test.of, test.alloc, test.task)
			wrong := ""
			if err != nil {
				wrong = err.Error()
			}
			if diff := cmp.Diff(test.wrong, wrong); got.Name != test.want || diff != "" {
				t.Errorf("got %q, want %q, and the error (-want +got):\n%s", got.Name, test.want, diff)
			}
		})
	}
}

func TestStatsOfAVM(t *testing.T) {
	at := time.Now()
	before := hypervisor.Usage{Stats: hypervisor.Stats{At: at, CPU: time.Second}}
	now := hypervisor.Usage{
		Stats: hypervisor.Stats{
			At: at.Add(2 * time.Second), CPU: 2 * time.Second, RSS: 300 * vm.MiB,
			Guest: &hypervisor.GuestMemory{Available: 200 * vm.MiB, Usable: 50 * vm.MiB},
		},
		VCPUs: 2, Memory: 256 * vm.MiB,
		Disks:      []hypervisor.DiskUsage{{Name: "vda", Read: vm.GiB, Written: vm.KiB, Capacity: 10 * vm.GiB}},
		Interfaces: []hypervisor.InterfaceUsage{{Name: "vnet0", Received: 10, Sent: vm.MiB, ReceivedDropped: 1, SentDropped: 2}},
	}
	var out strings.Builder
	silent := measuredOf(vms[1], hypervisor.Usage{}, hypervisor.Usage{})
	if err := printStats(&out, []measured{measuredOf(vms[0], before, now), silent}); err != nil {
		t.Fatal(err)
	}
	const want = `JOB  ALLOC     TASK  VM   CPU    VCPUS  QEMU'S MEMORY  GUEST'S MEMORY
web  c20ee15a  a     a-1  50.0%  2      300MiB         150MiB of 256MiB
web  c20ee15a  b     b-1  0.0%   0      -              -

VM   DISK  READ  WRITTEN  ALLOCATED  SIZE
a-1  vda   1GiB  1KiB     -          10GiB

VM   INTERFACE  RECEIVED  SENT  DROPPED
a-1  vnet0      10 bytes  1MiB  3
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("the statistics (-want +got):\n%s", diff)
	}
}

func TestKeysUpToTheEscapeAreTyped(t *testing.T) {
	for _, test := range []struct{ name, input, typed string }{
		{"the escape", "ls\n\x1dmore", "ls\n"},
		{"the escape alone", "\x1d", ""},
	} {
		left := false
		k := &keys{from: strings.NewReader(test.input), leave: func() { left = true }}
		typed, err := io.ReadAll(k)
		if err != nil || string(typed) != test.typed || !left {
			t.Errorf("%s: %q was typed, error %v, left %t, want %q, and that it is left", test.name, typed, err, left, test.typed)
		}
	}
	// At the end of the input nobody leaves.
	left := make(chan struct{})
	k := &keys{from: strings.NewReader("ls\n"), left: left, leave: func() { t.Error("the end of the input has left the console") }}
	typed := make([]byte, 16)
	if n, err := k.Read(typed); err != nil || string(typed[:n]) != "ls\n" {
		t.Errorf("%q was typed, error %v, want all of the input", typed[:n], err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := k.Read(typed)
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the end of the input ended the console: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(left)
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("a console that was left is told %v, want the end", err)
	}
}

func TestCommandLinesThatAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"doctor", "host"}, {"doctor", "-fix"},
		{"list", "web"}, {"list", "-all"},
		{"stats", "a", "b", "c"}, {"stats", "-interval", "0s"}, {"stats", "-interval", "long"},
		{"console"}, {"console", "a", "b", "c"}, {"console", "-raw", "a"},
		{"stats", "4c33", "-json"}, {"stats", "4c33", "-interval", "2s"}, {"console", "4c33", "-force"}, {"validate", "job.hcl", "-json"},
		{"list", "-uri", "system"}, {"stats", "-uri", "qemu+ssh://other/system"}, {"console", "-uri", "qemu:///%", "4c33"},
	} {
		got := run(t, "", args...)
		if got.Status != 2 || got.Out != "" || !strings.Contains(got.Errors, "Usage: nomad-driver-virt "+args[0]) {
			t.Errorf("%q: %+v, want status 2 and the help", args, got)
		}
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, c := range commands {
		for _, flag := range []string{"-help", "-h", "--help"} {
			got := run(t, "", c.name, flag)
			if got.Status != 0 || !strings.HasPrefix(got.Out, "Usage: nomad-driver-virt "+c.name) || !strings.Contains(got.Out, "Exit status: ") {
				t.Errorf("%s %s: %+v, want its help, which tells exit statuses", c.name, flag, got)
			}
		}
		if !strings.Contains(List(), c.name) {
			t.Errorf("the list of commands lacks %s:\n%s", c.name, List())
		}
	}
}

func TestLibvirtThatIsAwayIsAProblem(t *testing.T) {
	const away = "qemu:///system?socket=/nowhere/libvirt-sock"
	for _, args := range [][]string{{"list", "-uri", away}, {"stats", "-uri=" + away}, {"console", "-uri", away, "c20"}} {
		got := run(t, "", args...)
		if got.Status != 1 || got.Out != "" || !strings.Contains(got.Errors, "is libvirtd running?") {
			t.Errorf("%q: %+v, want status 1 and what is wrong", args, got)
		}
	}
}
