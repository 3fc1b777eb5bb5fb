//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	cephPool = "nomad-pool" // in Ceph; libvirt and the driver call it "ceph"
	cephConf = "/run/lab/ceph/ceph.conf"
)

// startCeph starts Ceph, if it does not run, and gives its pool to the driver. It
// stays: to stop it takes a restart of Nomad.
func startCeph(t *testing.T) {
	t.Helper()
	command(t, lab, "ceph-start")
}

// rbd runs Ceph's tool for images as the driver's user.
func rbd(t *testing.T, args ...string) string {
	t.Helper()
	return command(t, "rbd", append([]string{"-c", cephConf, "--id", "nomad", "-p", cephPool}, args...)...)
}

// inCeph names an image of the pool to qemu-img.
func inCeph(image string) string {
	return "rbd:" + cephPool + "/" + image + ":id=nomad:conf=" + cephConf
}

// volumeOfCeph makes an image in Ceph as an operator does, out of a file. It goes
// when the test ends.
func volumeOfCeph(t *testing.T, name, file string) {
	t.Helper()
	command(t, "qemu-img", "convert", "-O", "raw", file, inCeph(name))
	t.Cleanup(func() {
		_, _ = try("rbd", "-c", cephConf, "--id", "nomad", "-p", cephPool, "rm", "--no-progress", name)
	})
}

// leftInCeph lists the images of the pool, those that stay excepted, and the
// snapshots that any but a base has; nothing where Ceph does not run.
func leftInCeph(t *testing.T, stays ...string) string {
	t.Helper()
	if _, err := try("pgrep", "-x", "ceph-osd"); err != nil {
		return ""
	}
	images := rbd(t, "ls")
	left := without(images+"\n", stays...) + rbd(t, "trash", "ls", "--all")
	for image := range strings.FieldsSeq(without(images+"\n", "base-")) {
		snapshots, err := try("rbd", "-c", cephConf, "--id", "nomad", "-p", cephPool, "snap", "ls", "--all", image)
		if err != nil { // it went just now, with its snapshots
			continue
		}
		for line := range strings.Lines(snapshots) {
			left += fmt.Sprintf("a snapshot of %s: %s\n", image, line)
		}
	}
	return left
}

// digestInCeph is the SHA-256 of all of an image.
func digestInCeph(t *testing.T, image string) string {
	t.Helper()
	digest, _, _ := strings.Cut(command(t, "sh", "-c", "rbd -c "+cephConf+" --id nomad export --no-progress "+cephPool+"/"+image+" - | sha256sum"), " ")
	return digest
}

func TestDisksInCeph(t *testing.T) {
	startCeph(t)
	const size, source = 5 * mib, "e2e-source"
	data, digest := dataImage(t, "e2e-ceph.raw", size)
	volumeOfCeph(t, source, data)
	command(t, "qemu-img", "convert", "-O", "vmdk", data, imageFile(t, "e2e-ceph.vmdk"))

	rows := []struct {
		what, config string
		size         int64
		image, clone bool // what it holds; whether it has a parent
	}{
		{what: "an image, copied", config: fromImage("e2e-ceph.raw"), size: size, image: true},
		{what: "an image, grown", config: "size = \"6MiB\"\n" + fromImage("e2e-ceph.vmdk"), size: 6 * mib, image: true},
		{what: "an image, chained", config: "chained = true\nsize = \"7MiB\"\n" + fromImage("e2e-ceph.raw"), size: 7 * mib, image: true, clone: true},
		{what: "an image, chained again", config: "chained = true\nsize = \"8MiB\"\n" + fromImage("e2e-ceph.raw"), size: 8 * mib, image: true, clone: true},
		{what: "a volume, cloned", config: "size = \"9MiB\"\n" + fromVolume(source), size: 9 * mib, image: true, clone: true},
		{what: "a volume, chained", config: "chained = true\nsize = \"10MiB\"\n" + fromVolume(source), size: 10 * mib, image: true, clone: true},
		{what: "empty, to be kept", config: "size = \"1GiB\"\nkeep = \"1h\"", size: 1 << 30},
		{what: "on SCSI, read-only", config: "size = \"11MiB\"\nbus_type = \"scsi\"\nread_only = true\nformat = \"raw\"\nsparse = true", size: 11 * mib},
	}
	config, sizes := "", []int64{}
	for _, r := range rows {
		config += disk(`pool = "ceph"`, r.config)
		sizes = append(sizes, r.size)
	}
	// One beside them is in a directory.
	sizes = append(sizes, 12*mib)
	config += disk(`pool = "local"`, `size = "12MiB"`)
	j := guest{Name: "ceph", Disk: "pool = \"ceph\"\n" + tinyPrimary, Config: config, Cmds: serveShell}.submit(t)
	a := j.waitRunning()
	s := a.shell(t)
	if imports := strings.Count(a.events(), "Imported image "); imports > 2 {
		t.Errorf("the two images were imported %d times:\n%s", imports, a.events())
	}
	inGuest, targets, disks := s.ofSizes(sizes...), targetsInCeph(t), disksOf(t, vmOf(t, "vm-task"))
	for _, r := range rows {
		seen, on := inGuest[r.size], targets[r.size]
		if r.image && s.digestOf(seen.Name, size) != digest {
			t.Errorf("%s: %s does not hold what its source does", r.what, seen.Name)
		}
		if !strings.HasPrefix(on.Name, "vm-task-") || (on.Parent.Image != "") != r.clone {
			t.Errorf("%s: it is image %+v in Ceph; is it to be a clone: %t", r.what, on, r.clone)
		}
		if r.image {
			s.run("dd if=/dev/zero of=/dev/" + seen.Name + " bs=1M count=1 conv=fsync")
		}
	}
	if !inGuest[11*mib].RO {
		t.Error("the guest can write to the read-only disk")
	}
	for target, d := range disks {
		local := strings.HasPrefix(d.Source.File, poolDir+"/vm-task-")
		inCeph := strings.HasPrefix(d.Source.Name, cephPool+"/vm-task-") && d.Driver.Type == "raw"
		if d.Device == "disk" && local == inCeph {
			t.Errorf("disk %s is %+v, want it in one of the pools", target, d)
		}
	}
	key := command(t, "cat", "/run/lab/ceph/nomad.key")
	for where, text := range map[string]string{
		"an argument":      command(t, "ps", "axww", "-o", "args"),
		"the domain's XML": virsh(t, "dumpxml", "--security-info", vmOf(t, "vm-task")),
		"Nomad's log":      command(t, "cat", "/run/lab/logs/nomad.log"),
		"the events":       a.events(),
	} {
		if strings.Contains(text, key) {
			t.Errorf("%s holds the key of Ceph's client", where)
		}
	}
	j.purge()
	nothingLeft(t, source, "kept-until-")
	name := strings.TrimSpace(matching(rbd(t, "ls")+"\n", "kept-until-"))
	eventually(t, endTimeout, "virsh lists the kept volume "+name, func() error {
		if listed := virsh(t, "vol-list", "ceph"); name == "" || !strings.Contains(listed, name) {
			return errors.New(listed)
		}
		return nil
	})
	rbd(t, "rm", "--no-progress", name)
	if digestInCeph(t, source) != digest {
		t.Error("the volume is not what it was before it was cloned and chained on")
	}
}

type cephImage struct {
	Name   string
	Size   int64
	Parent struct{ Image string }
}

// targetsInCeph lists the images of the pool by their sizes.
func targetsInCeph(t *testing.T) map[int64]cephImage {
	t.Helper()
	bySize := make(map[int64]cephImage)
	for name := range strings.FieldsSeq(rbd(t, "ls")) {
		if !strings.HasPrefix(name, "vm-task-") {
			continue
		}
		var i cephImage
		if err := json.Unmarshal([]byte(rbd(t, "info", "--format", "json", name)), &i); err != nil {
			t.Fatal(err)
		}
		bySize[i.Size] = i
	}
	return bySize
}

func TestPluginKilledDuringAnImportToCeph(t *testing.T) {
	startCeph(t)
	dataImage(t, "e2e-killed.img", 500*mib)
	for name, config := range map[string]string{"copied": "", "chained": "chained = true"} {
		t.Run(name, func(t *testing.T) {
			bases := matching(rbd(t, "ls")+"\n", "base-")
			j := guest{Name: "ceph-killed-" + name, KillTimeout: "1s", Disk: "pool = \"ceph\"\n" + config + "\n" + fromImage("e2e-killed.img")}.submit(t)
			holdImport(t)
			killPluginThatImports(t)
			if found := matching(rbd(t, "ls")+"\n", "base-"); found != bases {
				t.Errorf("half a base was left: there are\n%s\nthere were\n%s", found, bases)
			}
			j.waitRunning()
			if images := matching(rbd(t, "ls")+"\n", "-vda"); strings.Count(images, "\n") != 1 {
				t.Errorf("want the image of one start, found\n%s", images)
			}
			j.purge()
			nothingLeft(t)
		})
	}
	for base := range strings.FieldsSeq(matching(rbd(t, "ls")+"\n", "base-")) {
		rbd(t, "rm", "--no-progress", base)
	}
}

func TestFourTasksThatStartTogetherImportOnceToCeph(t *testing.T) {
	startCeph(t)
	dataImage(t, "e2e-four-ceph.img", 200*mib)
	j := submit(t, "four-ceph", fourTasks("four-ceph", "ceph", "e2e-four-ceph.img"))
	a := j.waitRunning()
	if imports := strings.Count(a.events(), "Imported image "); imports != 1 {
		t.Errorf("the image was imported %d times:\n%s", imports, a.events())
	}
	parents := make(map[string]bool)
	for name := range strings.FieldsSeq(matching(rbd(t, "ls")+"\n", "-vda")) {
		var i cephImage
		if err := json.Unmarshal([]byte(rbd(t, "info", "--format", "json", name)), &i); err != nil {
			t.Fatal(err)
		}
		parents[i.Parent.Image] = true
	}
	if len(parents) != 1 {
		t.Errorf("the tasks' disks are clones of %v, want one base", parents)
	}
	j.purge()
	nothingLeft(t)
}

func TestCephThatIsAwayIsAnErrorInTime(t *testing.T) {
	startCeph(t)
	here := guest{Name: "ceph-here", Task: "here", Disk: "pool = \"ceph\"\n" + tinyPrimary, KillTimeout: "1s"}.submit(t)
	here.waitRunning()
	command(t, lab, "ceph-break")
	t.Cleanup(func() { command(t, lab, "ceph-start") }) // does nothing when it runs

	// This one ends, though its disk cannot be removed now.
	command(t, "nomad", "job", "stop", "-detach", here.name)

	// The driver tells by the node's health or by the task's failure, whichever
	// comes first.
	away := submit(t, "ceph-away", guest{Name: "ceph-away", Disk: "pool = \"ceph\"\n" + fromImage("tiny.qcow2")}.hcl(t))
	eventually(t, 90*time.Second, "somebody who tells that Ceph is away", func() error {
		node := matching(command(t, "nomad", "node", "status", "-self", "-verbose"), "ceph")
		if a, err := away.newest(); err == nil && a.ClientStatus == "failed" && a.tells("ceph") || strings.Contains(node, "false") {
			return nil
		}
		return fmt.Errorf("the node says %q", node)
	})
	here.purge()
	away.purge()
	command(t, lab, "ceph-start")
	nothingLeft(t)
}
