package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"nomad-driver-virt/cli"
)

func TestReadmeShowsTheExamplesAsTheyAre(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	// Blocks of a list are indented.
	shown := strings.ReplaceAll(string(readme), "\n   ", "\n")
	for _, name := range []string{"examples/python.nomad.hcl", "examples/virt.hcl"} {
		example, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		block := "```hcl\n" + string(example) + "```\n"
		if !strings.Contains(string(readme), block) && !strings.Contains(shown, block) {
			t.Errorf("README.md does not show %s as it is, want the block:\n%s", name, example)
		}
	}
}

// saysByHand is what a command prints, with its exit status.
func saysByHand(t *testing.T, status int, args ...string) string {
	t.Helper()
	var out, complaints bytes.Buffer
	if got := byHand(t.Context(), args, cli.Streams{Out: &out, Err: &complaints}); got != status {
		t.Fatalf("%q ends with status %d, want %d: %s", args, got, status, complaints.String())
	}
	return out.String()
}

func TestReadmeShowsWhatValidateSays(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := "$ nomad-driver-virt validate cli/testdata/broken.nomad.hcl\n" + saysByHand(t, 1, "validate", "cli/testdata/broken.nomad.hcl") + "```\n"
	if !strings.Contains(string(readme), want) {
		t.Errorf("README.md does not show what validate says, want:\n%s", want)
	}
}

func TestDocsShowTheHelpOfCommands(t *testing.T) {
	docs, err := os.ReadFile("docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(cli.List()) {
		name := strings.Fields(line)[1]
		want := "## " + name + "\n\n```text\n" + saysByHand(t, 0, name, "-help") + "```\n"
		if !strings.Contains(string(docs), want) {
			t.Errorf("docs/commands.md does not show the help of %s, want:\n%s", name, want)
		}
	}
}
