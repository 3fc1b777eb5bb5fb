package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/doctest"
)

// answer is what a command says, and its exit status.
type answer struct {
	Status      int
	Out, Errors string
}

func run(t *testing.T, stdin string, args ...string) answer {
	t.Helper()
	var out, errors bytes.Buffer
	status := Run(t.Context(), Streams{strings.NewReader(stdin), &out, &errors}, args[0], args[1:])
	return answer{status, out.String(), errors.String()}
}

func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const job = `variable "size" { default = "1GiB" }
job "web" {
  group "g" {
    task "t" {
      driver = "virt"
      config {
        hostname = "web"
        disk {
          size = var.size
          pool = "fast"
        }
      }
    }
  }
}
`

func TestValidate(t *testing.T) {
	good := file(t, "job.hcl", job)
	bad := file(t, "job.hcl", strings.ReplaceAll(job, `"web"`, `"a_b"`))
	other := file(t, "job.hcl", strings.ReplaceAll(job, `"virt"`, `"docker"`))
	config := file(t, "agent.hcl", `plugin "nomad-driver-virt" { config { storage_pools { directory "fast" { path = "/fast" } } } }`)
	elsewhere := file(t, "agent.hcl", `plugin "nomad-driver-virt" { config {} }`)
	broken := file(t, "agent.hcl", `plugin "nomad-driver-virt" { config { acceleration = "much" } }`)
	vars := file(t, "vars.hcl", `size = "none"`)

	const (
		task      = "group \"g\", task \"t\"\n"
		unchecked = "  unchecked  config.disk[0].pool: whether the node has storage pool \"fast\"\n"
		noHost    = "  problem    config.hostname: \"a_b\" is no label of RFC 1123: 1 to 63 letters, digits and hyphens, none at the ends\n"
		noSize    = "  problem    config.disk[0].size: \"none\" is no size; write bytes, or a number and a unit: 20GB, 15GiB\n"
		fine      = "job \"web\": the driver refuses nothing of it; unchecked: "
		refused   = "job \"web\": the driver would refuse it; problems: 1, unchecked: 1\n"
	)
	for _, test := range []struct {
		name  string
		stdin string
		args  []string
		want  answer
	}{
		{"a good job", "", []string{good}, answer{Out: task + unchecked + fine + "1\n"}},
		{"from standard input", job, []string{"-"}, answer{Out: task + unchecked + fine + "1\n"}},
		{"for a node that is known", "", []string{"-config", config, good}, answer{Out: task + fine + "0\n"}},
		{"a bad job", "", []string{bad}, answer{1, task + noHost + unchecked + strings.Replace(refused, "web", "a_b", 1), ""}},
		{"a bad value of a variable", "", []string{"-var", "size=none", good}, answer{1, task + noSize + unchecked + refused, ""}},
		{"the same by a file", "", []string{"-var-file", vars, good}, answer{1, task + noSize + unchecked + refused, ""}},
		{"no task of the driver's", "", []string{other}, answer{Out: "job \"web\" has no task with driver = \"virt\"\n"}},
		{
			"a pool that the nodes do not have", "",
			[]string{"-config=" + elsewhere, good},
			answer{1, task + "  problem    config.disk[0].pool: there is no storage pool \"fast\" on this host, there are: nomad\n" +
				strings.Replace(refused, "unchecked: 1", "unchecked: 0", 1), ""},
		},
		{
			"a configuration that is refused itself", "",
			[]string{"-config", broken, good},
			answer{2, "", "nomad-driver-virt validate: the configuration of plugin nomad-driver-virt: acceleration: \"much\" is none of auto, kvm, tcg\n"},
		},
		{
			"a configuration without the plugin", "",
			[]string{"-config", vars, good},
			answer{2, "", "nomad-driver-virt validate: " + vars + " has no block plugin \"nomad-driver-virt\"\n"},
		},
		{"no file", "", []string{"/nowhere.hcl"}, answer{2, "", "nomad-driver-virt validate: open /nowhere.hcl: no such file or directory\n"}},
		{
			"no job file", "nonsense", []string{"-"},
			answer{2, "", "nomad-driver-virt validate: the job file cannot be read: standard input:1,1-9: " +
				"Argument or block definition required; An argument or block definition is required here. " +
				"To set an argument, use the equals sign \"=\" to introduce the argument value.\n"},
		},
		{
			"no job file, for machines", "",
			[]string{"-json", "/nowhere.hcl"},
			answer{2, "", "nomad-driver-virt validate: open /nowhere.hcl: no such file or directory\n"},
		},
		{"no argument", "", nil, answer{2, "", "nomad-driver-virt validate: an argument is missing\n\n" + validateHelp}},
		{"two arguments", "", []string{"a", "b"}, answer{2, "", "nomad-driver-virt validate: \"b\" is one argument too many\n\n" + validateHelp}},
		{
			"an unknown flag", "",
			[]string{"-strict", good},
			answer{2, "", "nomad-driver-virt validate: flag provided but not defined: -strict\n\n" + validateHelp},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := run(t, test.stdin, append([]string{"validate"}, test.args...)...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValidateForMachines(t *testing.T) {
	got := run(t, job, "validate", "-json", "-var=size=none", "-")
	want := `{
  "job": "web",
  "tasks": [
    {
      "group": "g",
      "task": "t",
      "problems": [
        "config.disk[0].size: \"none\" is no size; write bytes, or a number and a unit: 20GB, 15GiB"
      ],
      "warnings": [],
      "unchecked": [
        "config.disk[0].pool: whether the node has storage pool \"fast\""
      ]
    }
  ]
}
`
	if diff := cmp.Diff(answer{1, want, ""}, got); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}
}

func TestExamplesAreNotRefused(t *testing.T) {
	jobs := doctest.Examples(t, "..")
	for _, path := range jobs {
		if got := run(t, "", "validate", path); got.Status != 0 || !strings.Contains(got.Out, "refuses nothing") {
			t.Errorf("%s: %+v", path, got)
		}
	}
	if len(jobs) < 30 {
		t.Errorf("there are %d examples of jobs, want 30 at least", len(jobs))
	}
}
