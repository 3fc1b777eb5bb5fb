//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// diskRow is a disk of a job, and what has to be seen of it in the guest and on
// the host. Each has a size of its own, by which it is found.
type diskRow struct {
	what   string
	config string
	size   int64 // that the guest sees

	ro   bool
	kind string // by lsblk, default "disk"
	tran string // by lsblk

	target string // by libvirt; "": any
	bus    string // by libvirt, default "virtio"
	format string // default "qcow2"
	pool   string // directory of the pool, default that of "local"
	full   bool   // whether all of its space is taken from the beginning
	image  string // that it holds
}

// imageSizes are those of the images on some of the disks.
var imageSizes = map[string]int64{"e2e-disks.img": 3 * mib, "e2e-cdrom.img": 4 * mib}

var disksOnPC = []diskRow{
	{what: "the primary disk", config: tinyPrimary, size: 50 * mib, target: "vda"},
	{what: "all by default", config: `size = "10MiB"`, size: 10 * mib},
	{what: "scsi", config: "bus_type = \"scsi\"\nsize = \"11MiB\"", size: 11 * mib, bus: "scsi"},
	{what: "sata", config: "bus_type = \"sata\"\nsize = \"12MiB\"", size: 12 * mib, bus: "sata", tran: "sata"},
	{what: "ide", config: "bus_type = \"ide\"\nsize = \"13MiB\"", size: 13 * mib, bus: "ide", tran: "ata"},
	{what: "usb", config: "bus_type = \"usb\"\nsize = \"14MiB\"", size: 14 * mib, bus: "usb", tran: "usb"},
	{what: "a name after vdz", config: "devname = \"vdaa\"\nsize = \"15MiB\"", size: 15 * mib, target: "vdaa"},
	{what: "raw", config: "format = \"raw\"\nsize = \"16MiB\"", size: 16 * mib, format: "raw", full: true},
	{what: "raw, sparse", config: "format = \"raw\"\nsparse = true\nsize = \"17MiB\"", size: 17 * mib, format: "raw"},
	{what: "qcow2, not sparse", config: "format = \"qcow2\"\nsparse = false\nsize = \"18MiB\"", size: 18 * mib, full: true},
	{what: "another pool", config: "pool = \"small\"\nsize = \"19MiB\"", size: 19 * mib, pool: smallDir},
	{what: "a size in decimal units, rounded up", config: `size = "20 MB"`, size: 20_000_768},
	{what: "a size in bytes, rounded up", config: `size = "1000001"`, size: 1_000_448},
	{
		what:   "driver, kind, pool and name as they are by default",
		config: "driver = \"qemu\"\nkind = \"disk\"\npool = \"local\"\nbus_type = \"virtio\"\ndevname = \"vdq\"\nsize = \"22MiB\"",
		size:   22 * mib, target: "vdq",
	},
	{
		what: "read-only", config: "read_only = true\n" + fromImage("e2e-disks.img"),
		size: 3 * mib, ro: true, image: "e2e-disks.img", full: true, // with data
	},
	{
		what: "grown", config: "size = \"24MiB\"\nformat = \"raw\"\nsparse = true\n" + fromImage("e2e-disks.img"),
		size: 24 * mib, format: "raw", image: "e2e-disks.img",
	},
	{
		what: "a cdrom", config: "kind = \"cdrom\"\nformat = \"raw\"\n" + fromImage("e2e-cdrom.img"),
		size: 4 * mib, ro: true, kind: "rom", tran: "ata", bus: "ide", format: "raw", full: true, image: "e2e-cdrom.img",
	},
}

var disksOnQ35 = []diskRow{
	{
		what: "a primary disk that is read-only, on another bus", config: "bus_type = \"scsi\"\nread_only = true\n" + tinyPrimary,
		size: 50 * mib, ro: true, bus: "scsi",
	},
	{what: "all by default", config: `size = "10MiB"`, size: 10 * mib},
	{what: "sata", config: "bus_type = \"sata\"\nsize = \"12MiB\"", size: 12 * mib, bus: "sata", tran: "sata"},
	{what: "usb", config: "bus_type = \"usb\"\nsize = \"14MiB\"", size: 14 * mib, bus: "usb", tran: "usb"},
	{
		what: "a cdrom", config: "kind = \"cdrom\"\nformat = \"raw\"\n" + fromImage("e2e-cdrom.img"),
		size: 4 * mib, ro: true, kind: "rom", tran: "sata", bus: "sata", format: "raw", full: true, image: "e2e-cdrom.img",
	},
	{
		what: "a cdrom on a bus by name", config: "kind = \"cdrom\"\nbus_type = \"scsi\"\n" + fromImage("e2e-disks.img"),
		size: 3 * mib, ro: true, kind: "rom", bus: "scsi", image: "e2e-disks.img", full: true,
	},
}

func TestDisksAreWhatTheJobSays(t *testing.T) {
	digests := make(map[string]string)
	for image, size := range imageSizes {
		_, digests[image] = dataImage(t, image, size)
	}
	for machine, rows := range map[string][]diskRow{"pc": disksOnPC, "q35": disksOnQ35} {
		t.Run(machine, func(t *testing.T) {
			var sizes []int64
			for _, r := range rows {
				sizes = append(sizes, r.size)
			}
			more := "os {\nmachine = \"" + machine + "\"\n}\n"
			for _, r := range rows[1:] {
				more += disk(r.config)
			}
			j := guest{Name: "disks-" + machine, Disk: rows[0].config, Config: more, Cmds: serveShell}.submit(t)
			s := j.waitRunning().shell(t)
			vm := vmOf(t, "vm-task")
			targets := targetsBySize(t, vm)
			disks := disksOf(t, vm)
			inGuest := s.ofSizes(sizes...)
			for _, r := range rows {
				seen := inGuest[r.size]
				r.check(t, seen, disks[targets[r.size]])
				if r.bus == "" { // a virtio disk: the kernel shows what it says it is called
					if got := s.run("cat /sys/block/" + seen.Name + "/serial"); got != targets[r.size] {
						t.Errorf("%s: the guest's %s says that it is %q, want %s", r.what, seen.Name, got, targets[r.size])
					}
				}
				if r.image != "" && s.digestOf(seen.Name, imageSizes[r.image]) != digests[r.image] {
					t.Errorf("%s: %s does not hold what its image does", r.what, seen.Name)
				}
			}
			readOnly := "/dev/" + inGuest[3*mib].Name
			s.run("blockdev --setrw " + readOnly + "; dd if=/dev/urandom of=" + readOnly + " bs=64k count=1; sync; echo 3 > /proc/sys/vm/drop_caches")
			if s.digestOf(filepath.Base(readOnly), 3*mib) != digests["e2e-disks.img"] {
				t.Errorf("the guest wrote to %s, which is read-only", readOnly)
			}
			j.purge()
			nothingLeft(t)
		})
	}
}

// check compares a row with what the guest and libvirt tell of its disk.
func (r diskRow) check(t *testing.T, got blockDevice, on domainDisk) {
	t.Helper()
	orElse := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	want := blockDevice{Name: got.Name, Size: r.size, RO: r.ro, Type: orElse(r.kind, "disk"), Tran: r.tran}
	if got != want {
		t.Errorf("%s: the guest sees %+v, want %+v", r.what, got, want)
	}
	bus, format, pool := orElse(r.bus, "virtio"), orElse(r.format, "qcow2"), orElse(r.pool, poolDir)
	if on.Target.Bus != bus || on.Driver.Name != "qemu" || on.Driver.Type != format || filepath.Dir(on.Source.File) != pool {
		t.Errorf("%s: libvirt has %+v, want bus %s, driver qemu, format %s, in %s", r.what, on, bus, format, pool)
	}
	if r.target != "" && on.Target.Dev != r.target {
		t.Errorf("%s: libvirt has it as %s, want %s", r.what, on.Target.Dev, r.target)
	}
	info, err := os.Stat(on.Source.File)
	if err != nil {
		t.Fatal(err)
	}
	if taken := info.Sys().(*syscall.Stat_t).Blocks * 512; (taken >= r.size) != r.full {
		t.Errorf("%s: the volume takes %d bytes of the host's; is all of its size to be taken: %t", r.what, taken, r.full)
	}
}

// targetsBySize lists the disks' names that libvirt has by their sizes.
func targetsBySize(t *testing.T, vm string) map[int64]string {
	t.Helper()
	targets := make(map[int64]string)
	for line := range strings.Lines(virsh(t, "domblkinfo", "--all", vm)) {
		var target string
		var size int64
		if _, err := fmt.Sscan(line, &target, &size); err == nil {
			targets[size] = target
		}
	}
	return targets
}

func TestDisksThatCannotBeAreRefused(t *testing.T) {
	refused := []struct{ config, attribute, why string }{
		{"size = \"1MiB\"\nbus_type = \"ide\"", "bus_type", "ide"},
		{"size = \"1MiB\"\nbus_type = \"floppy\"", "bus_type", "floppy"},
		{"size = \"1MiB\"\nkind = \"tape\"", "kind", "tape"},
		{"size = \"1MiB\"\nformat = \"vmdk\"", "format", "vmdk"},
		{"size = \"1MiB\"\npool = \"nowhere\"", "pool", "nowhere"},
		{"size = \"1MiB\"\nkeep = \"forever\"", "keep", "forever"},
		{"size = \"1MiB\"\n" + fromImage("tiny.qcow2"), "size", "50"},
		{"size = \"1MiB\"\nchained = true", "chained", "source"},
		{"format = \"raw\"\nchained = true\n" + fromImage("tiny.qcow2"), "format", "chained"},
		{"sparse = false\nchained = true\n" + fromImage("tiny.qcow2"), "sparse", "chained"},
		{"source {\nimage = \"tiny.qcow2\"\nvolume = \"some.qcow2\"\n}", "source", "volume"},
		{fromVolume("no-such-volume"), "source.volume", "no-such-volume"},
		{"volume = \"/dev/vdz\"", "volume", "volume_mount"},
	}
	more := "os {\nmachine = \"q35\"\n}\n"
	for _, r := range refused {
		more += disk(r.config)
	}
	j := guest{Name: "refused", Disk: tinyPrimary, Config: more}.submit(t)
	a := j.waitFailed()
	for i, r := range refused {
		attribute := fmt.Sprintf("config.disk[%d].%s: ", i+1, r.attribute)
		if problem := problemOf(a, attribute); !strings.Contains(problem, r.why) {
			t.Errorf("%s is not refused with a word on %q: %q", attribute, r.why, problem)
		}
	}
	if t.Failed() {
		t.Log(a.events())
	}
	nothingLeft(t)
}
