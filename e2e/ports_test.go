//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// backWithin is how long a published port may be away after somebody has changed
// the host's network.
const backWithin = 30 * time.Second

func TestPublishedPortsStay(t *testing.T) {
	j := guest{Name: "stays", Cmds: []string{serveLocal}, KillTimeout: "5s"}.submit(t)
	a := j.waitRunning()
	url := a.url(t, "http", "/")
	page(t, tinyTimeout, url)
	answers := func(after string) {
		t.Helper()
		eventually(t, backWithin, "the port after "+after, func() error {
			_, err := getFromFar(url)
			return err
		})
	}
	answers("nothing")
	command(t, "nft", "delete", "table", "inet", "nomad_virt")
	answers("its table was deleted")
	command(t, "iptables", "-F", "FORWARD")
	// libvirt's rules are ahead of ours when it has restarted a network.
	virsh(t, "net-destroy", "default")
	virsh(t, "net-start", "default")
	answers("its network was restarted")
	j.waitEvent(endTimeout, "taken off bridge virbr0", "is back on it")
	j.waitEvent(endTimeout, "they are published again")

	// Nobody is there to see it, and the next plugin does not remember.
	command(t, lab, "nomad-stop")
	command(t, "nft", "delete", "table", "inet", "nomad_virt")
	if _, err := getFromFar(url); err == nil {
		t.Error("the port answers, and nothing publishes it")
	}
	// As an earlier version of the driver would have left it.
	command(t, "nft", "add table ip nomad_virt; "+
		"add map ip nomad_virt ports { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service ; }; "+
		`add element ip nomad_virt ports { 10.99.0.2 . tcp . 29999 comment "ghost-5a6e215e http on virbr0" : 192.168.122.9 . 80 }`)
	command(t, lab, "nomad-start")
	answers("a restart of the agent")
	eventually(t, 2*backWithin, "no port of a VM that is gone", func() error {
		if ghost := matching(command(t, "nft", "list", "ruleset"), "ghost-"); ghost != "" {
			return errors.New(ghost)
		}
		return nil
	})

	command(t, "nft", "flush", "ruleset")
	answers("all rules were flushed")
	if a, err := j.newest(); err != nil || a.TaskStates["vm-task"].Restarts != 0 {
		t.Errorf("the task was restarted (error %v)", err)
	}
	// libvirt writes its own anew when it starts.
	restartLibvirt(t)
	answers("libvirt's rules were back")
	j.purge()
	nothingLeft(t)
}

func TestOneLabelOfTwoTasks(t *testing.T) {
	task := func(name string) string {
		return fmt.Sprintf(`
			task %[1]q {
				driver = "virt"
				config {
					cmds = ["echo %[1]s > /run/index.html; httpd -p 8000 -h /run"]
					disk {
						chained = true
						source {
							image = "tiny.qcow2"
						}
					}
					network_interface {
						bridge {
							name  = "virbr0"
							ports = ["http"]
						}
					}
				}
				kill_timeout = "20s"
				resources {
					cores  = 1
					memory = 256
				}
			}`, name)
	}
	j := submit(t, "shared", `job "shared" {
		type = "batch"
		group "group" {
			restart {
				attempts = 0
				mode     = "fail"
			}
			network {
				mode = "host"
				port "http" {
					to = 8000
				}
			}`+task("one")+task("two")+`
		}
	}`)
	a := j.waitRunning()
	url := a.url(t, "http", "/")
	holder := strings.TrimSpace(page(t, tinyTimeout, url))
	j.waitEvent(endTimeout, "Port http is published for VM "+holder+"-", "takes it over")
	command(t, "nomad", "alloc", "signal", "-s", "SIGTERM", a.ID, holder)
	eventually(t, tinyTimeout, "the page of the other task", func() error {
		got, err := get(url)
		if err == nil && strings.TrimSpace(got) == holder {
			err = errors.New("it is the page of " + got)
		}
		return err
	})
	j.waitEvent(endTimeout, "published for it now")
	j.purge()
	nothingLeft(t)
}
