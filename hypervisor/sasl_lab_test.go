//go:build lab

package hypervisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Its letters are such that preparing or re-encoding it would change it.
const secret = "hush ﬁ pässwörd 🐧,=\\"

// askingLibvirt starts a libvirtd that asks for SASL, with a user "nomad". What
// it would share with the lab's own is in namespaces of its own.
func askingLibvirt(t *testing.T, mechanisms string) (uri string) {
	t.Helper()
	dir := t.TempDir()
	users, config := filepath.Join(dir, "users.db"), filepath.Join(dir, "libvirtd.conf")
	must(t, os.WriteFile(filepath.Join(dir, "libvirt.conf"),
		fmt.Appendf(nil, "mech_list: %s\nsasldb_path: %s\n", mechanisms, users), 0o600))
	must(t, os.WriteFile(config, fmt.Appendf(nil, "auth_unix_rw = \"sasl\"\nunix_sock_dir = %q\n", dir), 0o600))

	add := exec.Command("saslpasswd2", "-p", "-c", "-a", "libvirt", "-f", users, "nomad")
	add.Stdin = strings.NewReader(secret)
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("saslpasswd2: %v\n%s", err, out)
	}

	const begin = `
		for dir in /run/libvirt /var/lib/libvirt /var/cache/libvirt /etc/libvirt; do mount -t tmpfs tmpfs $dir; done
		exec libvirtd "$@"`
	log, err := os.Create(filepath.Join(dir, "log"))
	must(t, err)
	t.Cleanup(func() { log.Close() })
	daemon := exec.Command("sh", "-ec", begin, "sh", "--config", config, "--pid-file", filepath.Join(dir, "pid"))
	daemon.Env = append(os.Environ(), "SASL_CONF_PATH="+dir)
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	must(t, daemon.Start())
	t.Cleanup(func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		err := daemon.Wait()
		if out, _ := os.ReadFile(log.Name()); err != nil || t.Failed() {
			t.Logf("libvirtd: %v\n%s", err, out)
		}
	})
	socket := filepath.Join(dir, "libvirt-sock")
	eventually(t, 10*time.Second, "libvirtd listens", func() bool {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	return testDriver + "?socket=" + socket
}

// runAs runs the libvirt at a URI with a name and a password.
func runAs(t *testing.T, uri, user, password string) *Host {
	t.Helper()
	h, err := New(uri)
	must(t, err)
	h.SetLogin(user, password)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return h
}

func TestLoginToLibvirt(t *testing.T) {
	for _, mechanisms := range []string{"scram-sha-256", "scram-sha-1", "plain", "digest-md5 plain scram-sha-1 scram-sha-256"} {
		t.Run(mechanisms, func(t *testing.T) {
			uri := askingLibvirt(t, mechanisms)

			h := runAs(t, uri, "nomad", secret)
			must(t, h.Health(within(t, 10*time.Second)))
			mustRun(t, h, "test", true)

			for _, wrong := range []login{{"nomad", secret + "x"}, {"nobody", secret}} {
				err := runAs(t, uri, wrong.user, wrong.password).Health(within(t, 10*time.Second))
				mustSay(t, err, uri, "it refused the name or the password of user \""+wrong.user+`"`)
				if err != nil && strings.Contains(err.Error(), "hush") {
					t.Errorf("the error tells the password: %v", err)
				}
			}
			err := runAs(t, uri, "", "").Health(within(t, 10*time.Second))
			mustSay(t, err, uri, "it asks for a name and a password", "provider.libvirt.user", "provider.libvirt.password")
		})
	}
}

func TestLoginByNoMechanismInCommon(t *testing.T) {
	uri := askingLibvirt(t, "digest-md5")
	err := runAs(t, uri, "nomad", secret).Health(within(t, 10*time.Second))
	mustSay(t, err, uri, "it offers the SASL mechanisms DIGEST-MD5", "mech_list")
}

func TestLoginThatLibvirtDoesNotAskFor(t *testing.T) {
	must(t, runAs(t, system, "nomad", secret).Health(within(t, 10*time.Second)))
}
