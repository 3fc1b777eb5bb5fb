//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// waitFailed waits until the newest allocation has failed.
func (j *job) waitFailed() allocation {
	j.t.Helper()
	return j.waitFor(startTimeout, "failure of "+j.name, func(a allocation) error {
		if a.ClientStatus != "failed" {
			return fmt.Errorf("the allocation is %s", a.ClientStatus)
		}
		return nil
	})
}

func TestAllProblemsOfAJobAreToldAtOnce(t *testing.T) {
	j := guest{
		Name:  "wrong",
		Image: "no-such.img",
		Config: `
			hostname  = "under_score"
			timezone  = "Nowhere/Town"
			user_data = "#cloud-config\nruncmd: [unclosed\n"
			disk {
				size = "ten"
			}
			os {
				machine = "difference-engine"
			}`,
	}.submit(t)
	a := j.waitFailed()
	for _, want := range []string{
		"config.hostname: ", "config.timezone: ", "config.user_data: ",
		"config.disk[0].source.image: ", "config.disk[1].size: ", "config.disk: none of the 2 disks is primary",
		"config.os.machine: ",
	} {
		if !strings.Contains(a.events(), want) {
			t.Errorf("the events do not say %q:\n%s", want, a.events())
		}
	}
	nothingLeft(t)
}

func TestImageOutsideIsRefused(t *testing.T) {
	j := guest{Name: "outside", Image: "/etc/shadow", Copy: true}.submit(t)
	if a := j.waitFailed(); !strings.Contains(a.events(), "outside of the directories that tasks may use") {
		t.Errorf("the events do not say why:\n%s", a.events())
	}
	nothingLeft(t)
}

func TestStartThatFailsHalfWayLeavesNothing(t *testing.T) {
	first := guest{Name: "first", Cmds: []string{serveLocal}}.submit(t)
	a := first.waitRunning()
	before := virsh(t, "list", "--all", "--name")

	// The port is taken from another VM by hand: its disks, seed and reservation
	// are made before that is found.
	port := a.AllocatedResources.Shared.Ports[0]
	second := submit(t, "second", strings.ReplaceAll(guest{Name: "second"}.hcl(t), "to = 8000",
		fmt.Sprintf("to = 8000\nstatic = %d\nignore_collision = true", port.Value)))
	failed := second.waitFailed()
	for _, want := range []string{"could not publish ports", port.Label, vmOf(t, "vm-task")} {
		if !strings.Contains(failed.events(), want) {
			t.Errorf("the events do not say %q:\n%s", want, failed.events())
		}
	}
	if after := virsh(t, "list", "--all", "--name"); after != before {
		t.Errorf("the failed start left a domain: before\n%s\nafter\n%s", before, after)
	}
	second.purge()
	first.purge()
	nothingLeft(t)
}

func TestSecretsAreToldToNobody(t *testing.T) {
	const password, secret = "Tr0ub4dor-and-3", "env-5ecret"
	j := guest{
		Name:   "secrets",
		Config: `default_user_password = "` + password + `"`,
		More:   "env {\n TOKEN = \"" + secret + "\"\n}",
		Cmds:   []string{serveLocal},
	}.submit(t)
	a := j.waitRunning()
	page(t, tinyTimeout, a.url(t, "http", "/"))
	log, err := os.ReadFile("/run/lab/logs/nomad.log")
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range map[string]string{
		"the domain's XML":    virsh(t, "dumpxml", "--security-info", vmOf(t, "vm-task")),
		"the task's events":   a.events(),
		"an argument":         command(t, "ps", "axww", "-o", "args"),
		"Nomad's log":         string(log),
		"the firewall":        command(t, "nft", "list", "ruleset"),
		"libvirt's log of VM": command(t, "sh", "-c", "cat /var/log/libvirt/qemu/*.log"),
	} {
		for _, s := range []string{password, secret} {
			if strings.Contains(text, s) {
				t.Errorf("%s holds a secret: %s", where, matching(text, s))
			}
		}
	}
	if mode := command(t, "sh", "-c", "stat -c %a "+poolDir+"/*-seed.iso"); mode != "600" {
		t.Errorf("the seed can be read by others: mode %s", mode)
	}
	j.purge()
	nothingLeft(t)
}
