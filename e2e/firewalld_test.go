//go:build e2e

package e2e

import "testing"

// firewalld writes all its rules anew when it is told to, and takes the bridges of
// libvirt into a zone of its own.
func TestPublishedPortIsBackAfterFirewalldReloads(t *testing.T) {
	t.Cleanup(func() {
		command(t, lab, "firewalld-stop")
		restartLibvirt(t) // it was restarted by that, and Nomad may or may not have heard
	})
	command(t, lab, "libvirt-stop") // it starts again with firewalld
	driverTells(t, false, "libvirt")
	command(t, lab, "firewalld-start")
	driverTells(t, true)
	if zones := command(t, "firewall-cmd", "--get-active-zones"); matching(zones+"\n", "virbr0") == "" {
		t.Fatalf("firewalld has not taken libvirt's bridge over, its zones are\n%s", zones)
	}
	j := guest{Name: "firewalld", Cmds: []string{serveLocal}, KillTimeout: "5s"}.submit(t)
	url := j.waitRunning().url(t, "http", "/")
	page(t, tinyTimeout, url)
	answers := func(after string) {
		t.Helper()
		eventually(t, backWithin, "the port from another host after "+after, func() error {
			_, err := getFromFar(url)
			return err
		})
		page(t, backWithin, url)
	}
	answers("its start under firewalld")
	for _, reload := range []string{"--reload", "--complete-reload"} {
		command(t, "firewall-cmd", reload)
		answers("firewall-cmd " + reload)
	}
	command(t, lab, "firewalld-stop")
	answers("the end of firewalld")
	command(t, lab, "firewalld-start")
	answers("a start of firewalld beside the running VM")
	if a, err := j.newest(); err != nil || a.TaskStates["vm-task"].Restarts != 0 {
		t.Errorf("the task was restarted (error %v)", err)
	}
	j.purge()
	nothingLeft(t)
}
