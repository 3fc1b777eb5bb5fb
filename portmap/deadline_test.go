package portmap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program has a shell script be the only program there is, besides sh and sleep.
func program(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nPATH=/usr/bin:/bin\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}

// Starts and ends of tasks come without a deadline, and wait for one another.
func TestProgramThatHangsDoesNotKeepTheTurn(t *testing.T) {
	program(t, "nft", "sleep 1000\n")
	table := New()
	table.within = 100 * time.Millisecond
	for what, err := range map[string]func() error{
		"publishing":  func() error { return publish(t, table, webPorts()) },
		"withdrawing": func() error { return table.Withdraw(t.Context(), "web") },
	} {
		done := make(chan error, 1)
		go func() { done <- err() }()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), "nft -j list table ip nomad_virt: it was not done within 100ms") {
				t.Errorf("%s: error is %v, want one that tells what was not done, and within which time", what, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s has not ended after 20 s", what)
		}
	}
}

func TestLockThatAnotherHoldsIsNamed(t *testing.T) {
	program(t, "iptables", `[ "$1 $2" = "-w 10" ] || exit 2
echo 'Another app is currently holding the xtables lock. Stopped waiting after 10s.' >&2
exit 4
`)
	err := iptablesFront{"iptables"}.letIn(t.Context(), true)
	if err == nil || !strings.HasPrefix(err.Error(), "iptables waited 10s for the lock /run/xtables.lock, which another program holds "+
		"(fuser -v /run/xtables.lock tells which): ") {
		t.Errorf("error is %v, want one that names the lock", err)
	}
}
