//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// volumeOfPool makes a volume of a directory pool as an operator does, with what
// is in a file. It goes when the test ends.
func volumeOfPool(t *testing.T, pool, name, capacity, format, file string) {
	t.Helper()
	virsh(t, "vol-create-as", pool, name, capacity, "--format", format)
	t.Cleanup(func() { _, _ = try("virsh", "-q", "vol-delete", "--pool", pool, name) })
	virsh(t, "vol-upload", "--pool", pool, name, file)
}

func TestVolumesAreClonedAndChainedOn(t *testing.T) {
	const size = 5 * mib
	const inQcow2, inRaw = "e2e-source.qcow2", "e2e-source.img"
	data, digest := dataImage(t, "e2e-source.raw", size)
	qcow2 := imageFile(t, "e2e-made.qcow2")
	command(t, "qemu-img", "convert", "-O", "qcow2", data, qcow2)
	volumeOfPool(t, "local", inRaw, "5MiB", "raw", data)
	volumeOfPool(t, "local", inQcow2, "1GiB", "qcow2", qcow2)
	untouched := map[string]string{}
	for _, volume := range []string{inRaw, inQcow2} {
		untouched[volume] = digestOfFile(t, poolDir+"/"+volume)
	}

	rows := []struct{ volume, config string }{
		{inQcow2, ""},
		{inRaw, ""},
		{inQcow2, `format = "raw"`},
		{inQcow2, "chained = true"},
		{inRaw, "chained = true"},
		{inQcow2, "size = \"16MiB\""},
		{inQcow2, "chained = true\nsize = \"17MiB\""},
	}
	more := ""
	for i, r := range rows {
		more += disk(fmt.Sprintf("devname = \"vd%c\"", 'b'+i), r.config, fromVolume(r.volume))
	}
	j := guest{Name: "clones", Disk: tinyPrimary, Config: more, Cmds: serveShell}.submit(t)
	s := j.waitRunning().shell(t)
	for i, r := range rows {
		name := fmt.Sprintf("vd%c", 'b'+i)
		if got := s.digestOf(name, size); got != digest {
			t.Errorf("%s made from %s (%s) does not hold what the volume does", name, r.volume, r.config)
		}
		s.run("dd if=/dev/urandom of=/dev/" + name + " bs=1M count=1 conv=fsync")
	}
	disks := s.disks()
	for _, grown := range []int64{16 * mib, 17 * mib} {
		if _, is := disks[grown]; !is {
			t.Errorf("no disk has grown to %d bytes: %+v", grown, disks)
		}
	}
	for target, d := range disksOf(t, vmOf(t, "vm-task")) {
		if target == "vdd" && d.Driver.Type != "raw" {
			t.Errorf("the clone of a qcow2 volume is %s, want raw", d.Driver.Type)
		}
	}
	j.purge()
	nothingLeft(t, inRaw, inQcow2)
	for volume, before := range untouched {
		if digestOfFile(t, poolDir+"/"+volume) != before {
			t.Errorf("volume %s is not what it was before it was cloned and chained on", volume)
		}
	}
}

// fourTasks are four tasks of one group, each with a disk chained on one image.
func fourTasks(name, pool, image string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %q {\ngroup \"group\" {\n", name)
	b.WriteString("restart {\nattempts = 0\nmode = \"fail\"\n}\nreschedule {\nattempts = 0\nunlimited = false\n}\n")
	for i := range 4 {
		fmt.Fprintf(&b, "task \"task-%d\" {\ndriver = \"virt\"\nkill_timeout = \"1s\"\nconfig {\n", i)
		b.WriteString(disk("chained = true", fmt.Sprintf("pool = %q", pool), fromImage(image)))
		b.WriteString("}\nresources {\ncpu = 100\nmemory = 64\n}\n}\n")
	}
	b.WriteString("}\n}\n")
	return b.String()
}

func TestFourTasksThatStartTogetherImportOnce(t *testing.T) {
	dataImage(t, "e2e-four.img", 300*mib) // boots nothing
	before := strings.Count(matching(listed(t, poolDir)+"\n", "/base-"), "\n")
	j := submit(t, "four", fourTasks("four", "local", "e2e-four.img"))
	a := j.waitRunning()
	if imports := strings.Count(a.events(), "Imported image "); imports != 1 {
		t.Errorf("the image was imported %d times:\n%s", imports, a.events())
	}
	bases := matching(listed(t, poolDir)+"\n", "/base-")
	if made := strings.Count(bases, "\n") - before; made != 1 {
		t.Errorf("%d bases were made, want one, now there are\n%s", made, bases)
	}
	parents := make(map[string]bool)
	for i := range 4 {
		disk := disksOf(t, vmOf(t, fmt.Sprintf("task-%d", i)))["vda"].Source.File
		parents[matching(command(t, "qemu-img", "info", "-U", disk)+"\n", "backing file: ")] = true
	}
	if len(parents) != 1 {
		t.Errorf("the tasks' disks are chained on %v, want one base", parents)
	}
	j.purge()
	nothingLeft(t)
}
