//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The agents of examples/ run beside those of the lab, at 127.0.0.1, with an /opt
// of their own, into which the plugin is installed as the documentation says.
func TestAgentExamplesMakeANodeThatIsReady(t *testing.T) {
	opt := t.TempDir()
	agent(t, opt, "server")
	eventually(t, startTimeout, "a server that leads", func() error {
		leader, err := get("http://127.0.0.1:4646/v1/status/leader")
		if err == nil && !strings.Contains(leader, "127.0.0.1:4647") {
			err = errors.New(leader)
		}
		return err
	})
	agent(t, opt, "client")
	eventually(t, startTimeout, "a client whose driver is healthy", func() error {
		status, err := try("nomad", "node", "status", "-address", "http://127.0.0.1:5656", "-self", "-verbose")
		if err == nil && !strings.Contains(strings.Join(strings.Fields(matching(status, "virt ")), " "), "virt true true Healthy") {
			err = errors.New(status)
		}
		return err
	})
}

// agent starts one of the examples' agents, and ends it with the test.
func agent(t *testing.T, opt, name string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command("unshare", "--mount", "sh", "-e", "-c", `
		mount --bind "$1" /opt
		install -D /run/lab/plugins/nomad-driver-virt /opt/nomad/plugins/nomad-driver-virt
		exec nomad agent -config="../examples/$2.nomad.hcl"`, "sh", opt, name)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append(os.Environ(), "AWS_CA_BUNDLE=") // Nomad looks for a cloud around it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it tells that it was interrupted
		if t.Failed() {
			t.Logf("agent %s:\n%s", name, out.String())
		}
	})
}
