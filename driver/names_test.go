package driver

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestVMName(t *testing.T) {
	const id = "c20ee15a-6d3c-4a9e-8f3e-2b1f0d4c7a55/task/5a6e215e"
	for _, test := range []struct{ task, want, hostname string }{
		{"virt-task", "virt-task-5a6e215e", "nomad-virt-task-5a6e215e"},
		{"Web_1.v2", "Web_1.v2-5a6e215e", "nomad-Web-1-v2-5a6e215e"},
		{"two words", "two-words-5a6e215e", "nomad-two-words-5a6e215e"},
		{"../../etc/passwd", "etc-passwd-5a6e215e", "nomad-etc-passwd-5a6e215e"},
		{"-rf", "rf-5a6e215e", "nomad-rf-5a6e215e"},
		{".hidden", "hidden-5a6e215e", "nomad-hidden-5a6e215e"},
		{"grüße", "gr--e-5a6e215e", "nomad-gr--e-5a6e215e"},
		{`"'$(id)`, "id--5a6e215e", "nomad-id--5a6e215e"},
		{"…", "task-5a6e215e", "nomad-task-5a6e215e"},
		{"", "task-5a6e215e", "nomad-task-5a6e215e"},
		{
			strings.Repeat("a", 62) + "bcd",
			strings.Repeat("a", 62) + "b-5a6e215e",
			"nomad-" + strings.Repeat("a", 47) + "b-5a6e215e",
		},
	} {
		got := vmName(test.task, id)
		if got != test.want {
			t.Errorf("task %q has VM %q, want %q", test.task, got, test.want)
		}
		if hostname := defaultHostname(got); hostname != test.hostname {
			t.Errorf("VM %q has the hostname %q, want %q", got, hostname, test.hostname)
		}
	}
}

// Whatever the name of a task is, its VM's is a name of a file, an argument and
// a word of a script, and the hostname a label.
func TestNamesAreHarmless(t *testing.T) {
	harmless := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,62}-[0-9a-f]{8}$`)
	label := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`) // RFC 1123
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{
		"a", "Z", "0", "-", ".", "_", " ", "/", "\\", "\n", "\x00", "\"", "'", "$", "`", "ü", "😀", "\xff", "..", "%s",
	}
	for range 2_000 {
		var task strings.Builder
		for range random.IntN(90) {
			task.WriteString(alphabet[random.IntN(len(alphabet))])
		}
		tail := fmt.Sprintf("%08x", random.Uint32())
		name := vmName(task.String(), "alloc/"+task.String()+"/"+tail)
		if !harmless.MatchString(name) || !strings.HasSuffix(name, tail) {
			t.Fatalf("task %q has VM %q, want a match of %s that ends in %s", task.String(), name, harmless, tail)
		}
		if hostname := defaultHostname(name); !label.MatchString(hostname) {
			t.Fatalf("VM %q has the hostname %q, want a label of RFC 1123", name, hostname)
		}
	}
}

func TestPlanRefusesHostnames(t *testing.T) {
	for hostname, fine := range map[string]bool{
		"web":                   true,
		"Web-1":                 true,
		"1":                     true,
		strings.Repeat("a", 63): true,
		strings.Repeat("a", 64): false,
		"web.example":           false,
		"web_1":                 false,
		"two words":             false,
		"-web":                  false,
		"web-":                  false,
		"web\n":                 false,
		"grün":                  false,
	} {
		r := newRequest(t, oneDisk)
		r.task.Hostname = hostname
		var want []string
		if !fine {
			want = []string{fmt.Sprintf("config.hostname: %q is no label of RFC 1123: "+
				"1 to 63 letters, digits and hyphens, none at the ends", hostname)}
		}
		spec, p := plan(r)
		if diff := cmp.Diff(want, []string(p), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("the problems of hostname = %q (-want +got):\n%s", hostname, diff)
		}
		if fine && spec.Seed.Hostname != hostname {
			t.Errorf("the hostname is %q, want %q", spec.Seed.Hostname, hostname)
		}
	}
}
