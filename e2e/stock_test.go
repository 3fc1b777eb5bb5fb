//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stockQEMU has libvirt start QEMU as Debian configures it, until the test ends.
func stockQEMU(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { restartLibvirt(t) }) // the environment is as it was by then
	t.Setenv("QEMU", "stock")
	restartLibvirt(t)
}

func TestStockQEMURunsTheMainJob(t *testing.T) {
	stockQEMU(t)
	const data = "e2e-stock"
	nomadVolume(t, data, "loop-device", "64MiB")
	volumesReady(t)
	j := guest{
		Name:  "stock",
		Group: groupVolume(data, "block-device"),
		More: taskVolume(data, "/dev/vdc", false) +
			"template {\ndata = \"for root alone\"\ndestination = \"secrets/key\"\nperms = \"0600\"\n}\n",
		Disk:   tinyPrimary,
		Cmds:   append([]string{"echo the last of cmds"}, serveShell...),
		Config: disk(`size = "9MiB"`) + disk(`volume = "/dev/vdc"`),
	}.submit(t)
	a := j.waitRunning()
	vm := vmOf(t, "vm-task")

	process := qemuOf(t, vm)
	if user := command(t, "stat", "-c", "%U", "/proc/"+process); user != "libvirt-qemu" {
		t.Errorf("QEMU runs as %s, want libvirt-qemu", user)
	}
	if is, host := namespaceOf(t, process), namespaceOf(t, "self"); is == host {
		t.Error("QEMU is in the mount namespace of the host")
	}
	if overlay := virsh(t, "domblklist", "--details", vm); !strings.Contains(overlay, poolDir) {
		t.Errorf("no disk is in the default pool:\n%s", overlay)
	}

	rules := appArmorRules(t, vm)
	for _, rule := range []string{
		poolDir + "/" + vm + `-vda.qcow2" rwk,`,
		`.qcow2" rk,`, // the base
		poolDir + "/" + vm + `-seed.iso" rk,`,
		`"/dev/loop`,
	} {
		if !strings.Contains(rules, rule) {
			t.Errorf("AppArmor's helper does not let QEMU have %s, its rules are\n%s", rule, rules)
		}
	}

	s := a.shell(t)
	if got := s.run("cat /secrets/key /local/index.html; grep -c ' virtiofs ' /proc/mounts"); got != "for root alone"+hello+"3" {
		t.Errorf("in its directories the guest sees %q", got)
	}
	for _, size := range []int64{9, 64} {
		device := "/dev/" + s.ofSizes(size * mib)[size*mib].Name
		if got := s.run("echo written | dd of=" + device + " conv=fsync 2>/dev/null && head -c 7 " + device); got != "written" {
			t.Errorf("from what it wrote to the disk of %d MiB the guest reads %q", size, got)
		}
	}
	for _, line := range []string{"SeaBIOS", "the last of cmds"} {
		a.waitLog(t, line)
	}

	// What libvirt makes of the firmware's settings is QEMU's as well.
	arm := guest{
		Name: "stock-arm", Task: "arm", Image: "tiny-arm64.qcow2", Config: "os {\n arch = \"aarch64\"\n}",
		Cmds: []string{serveLocal},
	}.submit(t)
	if got := page(t, tinyTimeout, arm.waitRunning().url(t, "http", "/")); got != hello {
		t.Errorf("the guest with UEFI serves %q, want %q", got, hello)
	}
	refused := guest{Name: "stock-9p", Config: `mounts = "9p"`}.submit(t)
	if a := refused.waitFailed(); !a.tells("config.mounts", "by 9p the guest would miss files", "leave mounts out for virtiofs") {
		t.Errorf("no event tells why 9p is refused:\n%s", a.events())
	}

	refused.purge()
	arm.purge()
	command(t, "nomad", "job", "stop", "-detach", j.name)
	if a := j.waitDead(endTimeout); strings.Contains(a.events(), "did not shut down") {
		t.Errorf("the guest did not hear the power button:\n%s", a.events())
	}
	j.purge()
	nothingLeft(t, data, loopDir)
}

// appArmorRules is what libvirt's helper would let a VM reach on a host with
// AppArmor, which no kernel of the tests has.
func appArmorRules(t *testing.T, vm string) string {
	t.Helper()
	cmd := exec.Command("/usr/lib/libvirt/virt-aa-helper", "--dryrun", "--create", "--uuid", "libvirt-"+virsh(t, "domuuid", vm))
	cmd.Stdin = strings.NewReader(virsh(t, "dumpxml", vm))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// namespaceOf is the mount namespace that a process is in.
func namespaceOf(t *testing.T, process string) string {
	t.Helper()
	namespace, err := os.Readlink(filepath.Join("/proc", process, "ns/mnt"))
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}
