package main

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/cli"
)

func TestByHandItSaysWhatItIs(t *testing.T) {
	versionLine := fmt.Sprintf("nomad-driver-virt %s (commit %s, built %s)\n", version, commit, date)
	type answer struct {
		Status         int
		Stdout, Stderr string
	}
	for _, test := range []struct {
		args []string
		want answer
	}{
		{[]string{"--version"}, answer{Stdout: versionLine}},
		{[]string{"-version"}, answer{Stdout: versionLine}},
		{[]string{"version"}, answer{Stdout: versionLine}},
		{[]string{"--help"}, answer{Stdout: help}},
		{[]string{"-help"}, answer{Stdout: help}},
		{[]string{"-h"}, answer{Stdout: help}},
		{[]string{"help"}, answer{Stdout: help}},
		{nil, answer{Status: 2, Stderr: help}},
		{[]string{"--version", "--help"}, answer{Status: 2, Stderr: help}},
		{[]string{"agent"}, answer{Status: 2, Stderr: "nomad-driver-virt: \"agent\" is not known\n\n" + help}},
		{[]string{"validate", "-help"}, answer{Stdout: said(t, "validate")}},
		{[]string{""}, answer{Status: 2, Stderr: "nomad-driver-virt: \"\" is not known\n\n" + help}},
	} {
		t.Run(fmt.Sprintf("%q", test.args), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got := answer{Status: byHand(t.Context(), test.args, cli.Streams{Out: &stdout, Err: &stderr})}
			got.Stdout, got.Stderr = stdout.String(), stderr.String()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the answer (-want +got):\n%s", diff)
			}
		})
	}
}

// said is the help of a command.
func said(t *testing.T, command string) string {
	t.Helper()
	var stdout bytes.Buffer
	if status := cli.Run(t.Context(), cli.Streams{Out: &stdout}, command, []string{"-help"}); status != 0 || stdout.Len() == 0 {
		t.Fatalf("the help of %s is %q, with status %d", command, stdout.String(), status)
	}
	return stdout.String()
}
