package main

import (
	"os"
	"strings"
	"testing"
)

func TestReadmeShowsTheExampleAsItIs(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("examples/python.nomad.hcl")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```hcl\n"+string(example)+"```\n") {
		t.Errorf("README.md does not show examples/python.nomad.hcl as it is, want the block:\n%s", example)
	}
}
