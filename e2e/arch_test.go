//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// It boots by UEFI, sees the allocation's directories, and hears the power button.
func TestGuestForARM(t *testing.T) {
	goodbyes := listen(t)
	j := guest{
		Name:  "arm",
		Image: "tiny-arm64.qcow2",
		Group: `
			constraint {
				attribute = "${attr.driver.virt.arch.aarch64}"
				operator  = "is_set"
			}`,
		Config: `
			os {
				arch    = "aarch64"
				machine = "virt"
			}`,
		Cmds: []string{
			"mkdir -p /etc/shutdown.d",
			fmt.Sprintf("printf '#!/bin/sh\\necho goodbye | nc -w 2 192.168.122.1 %d\\n' > /etc/shutdown.d/say", goodbyes.port),
			"chmod +x /etc/shutdown.d/say",
			"(uname -m; cat /local/index.html) > /run/index.html; httpd -p 8000 -h /run",
		},
	}.submit(t)
	a := j.waitRunning()
	if got, want := page(t, tinyTimeout, a.url(t, "http", "/")), "aarch64\n"+hello; got != want {
		t.Errorf("the guest serves %q, want %q", got, want)
	}
	j.waitEvent(endTimeout, "Started VM", "without KVM")
	j.purge()
	goodbyes.want(t, "goodbye\n")
	nothingLeft(t)
}

func TestArchitectureThatTheHostDoesNotHaveIsRefused(t *testing.T) {
	j := guest{Name: "foreign", Config: "os {\n arch = \"riscv64\"\n}"}.submit(t)
	const want = `config.os.arch: "riscv64" is none of the architectures that guests can have on this host: x86_64, aarch64`
	if a := j.waitFailed(); !strings.Contains(a.events(), want) {
		t.Errorf("the events do not say %q:\n%s", want, a.events())
	}
	nothingLeft(t)
}
