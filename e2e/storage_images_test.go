//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// imageFormats are those that an image may have.
var imageFormats = []string{"raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc"}

func TestImagesOfAllFormatsAreCopiedAndChained(t *testing.T) {
	const size = 3 * mib
	data, digest := dataImage(t, "e2e-formats.raw", size)
	more, letter := "", 'b'
	names := make(map[string]string)
	for _, format := range imageFormats {
		image := "e2e-formats." + format
		if format != "raw" {
			command(t, "qemu-img", "convert", "-O", format, data, imageFile(t, image))
		}
		for _, chained := range []bool{false, true} {
			// virtio disks are found in the order of their names.
			name := fmt.Sprintf("vd%c", letter)
			more += disk(fmt.Sprintf("devname = %q\nchained = %t", name, chained), fromImage(image))
			names[name] = fmt.Sprintf("%s, chained: %t", format, chained)
			letter++
		}
	}
	j := guest{Name: "formats", Disk: tinyPrimary, Config: more, Cmds: serveShell}.submit(t)
	s := j.waitRunning().shell(t)
	for name, what := range names {
		if got := s.digestOf(name, size); got != digest {
			t.Errorf("%s: %s does not hold what the image does", what, name)
		}
	}
	for name, on := range disksOf(t, vmOf(t, "vm-task")) {
		what, is := names[name]
		if !is {
			continue
		}
		info := command(t, "qemu-img", "info", "-U", on.Source.File)
		if chained := strings.Contains(info, "backing file: "+poolDir+"/base-"); chained != strings.HasSuffix(what, "chained: true") {
			t.Errorf("%s: is it an overlay of a base: %t\n%s", what, chained, info)
		}
	}
	// The guest writes to all of these disks, and to nothing below them.
	below := func() string {
		return command(t, "sh", "-c", "sha256sum "+imageDir+"/e2e-formats.* "+poolDir+"/base-*")
	}
	before := below()
	s.run("for disk in " + strings.Join(slices.Collect(maps.Keys(names)), " ") + "; do dd if=/dev/zero of=/dev/$disk bs=1M count=1 conv=fsync; done")
	j.purge()
	if after := below(); after != before {
		t.Errorf("the guest wrote to an image or to a base: these were\n%s\nand are\n%s", before, after)
	}
	nothingLeft(t)
}

// hostileImages makes images that would show a guest what is not its own. It
// returns source blocks, and words that their refusals have to have.
func hostileImages(t *testing.T) (sources []string, refusals [][]string) {
	t.Helper()
	add := func(source string, words ...string) {
		sources, refusals = append(sources, source), append(refusals, words)
	}
	made := func(name string, args ...string) string {
		command(t, "qemu-img", append(append([]string{"create", "-q"}, args...), imageFile(t, name))...)
		return fromImage(name)
	}
	add(made("e2e-backed.qcow2", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw"), "overlay of another file")
	command(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+imageFile(t, "e2e-data.raw"),
		imageFile(t, "e2e-outside.qcow2"), "1M")
	add(fromImage("e2e-outside.qcow2"), "another file")
	command(t, "qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=key,data=secret",
		"-o", "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10", imageFile(t, "e2e-encrypted.qcow2"), "1M")
	add(fromImage("e2e-encrypted.qcow2"), "is encrypted, which is not supported")
	descriptor := "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n" +
		"RW 4 FLAT \"/etc/passwd\" 0\nddb.adapterType = \"ide\"\nddb.virtualHWVersion = \"4\"\n"
	if err := os.WriteFile(imageFile(t, "e2e-flat.vmdk"), []byte(descriptor), 0o600); err != nil {
		t.Fatal(err)
	}
	add(fromImage("e2e-flat.vmdk"), "VMDK descriptor, a text that names the files of a disk")
	add("source {\nimage = \"tiny.qcow2\"\nformat = \"vmdk\"\n}", "vmdk", "qcow2")
	command(t, "qemu-img", "create", "-q", "-f", "qcow2", imageFile(t, "e2e-huge.qcow2"), "64T")
	add(fromImage("e2e-huge.qcow2"), "64", "virtual size")

	if err := os.Symlink("/etc/passwd", imageFile(t, "e2e-link.img")); err != nil {
		t.Fatal(err)
	}
	add(fromImage("e2e-link.img"), "outside")
	add(fromImage("../../../../etc/passwd"), "outside")
	evil := imageDir + "-evil"
	if err := os.Mkdir(evil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(evil) })
	command(t, "cp", filepath.Join(imageDir, "tiny.qcow2"), evil)
	add(fromImage(evil+"/tiny.qcow2"), "outside")
	add(fromImage(imageDir+"/../images-evil/tiny.qcow2"), "outside")
	return sources, refusals
}

func TestHostileImagesAreRefused(t *testing.T) {
	sources, refusals := hostileImages(t)
	for _, chained := range []bool{false, true} {
		more := ""
		for _, source := range sources {
			more += disk(fmt.Sprintf("chained = %t", chained), source)
		}
		j := guest{Name: fmt.Sprintf("hostile-%t", chained), Disk: tinyPrimary, Config: more}.submit(t)
		a := j.waitFailed()
		for i, words := range refusals {
			problem := problemOf(a, fmt.Sprintf("config.disk[%d].", i+1))
			missing := func(word string) bool { return !strings.Contains(problem, word) }
			if problem == "" || slices.ContainsFunc(words, missing) {
				t.Errorf("disk %d (%s): want a refusal with the words %q, got %q", i+1, sources[i], words, problem)
			}
		}
		j.purge()
		nothingLeft(t)
	}
}

// problemOf is what an allocation's events tell of a part of the configuration.
func problemOf(a allocation, part string) string {
	_, problem, _ := strings.Cut(a.events(), part)
	problem, _, _ = strings.Cut(problem, ") config.")
	return problem
}
