package driver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// summary writes what is planned for each disk on a line.
func summary(disks []vm.Disk) []string {
	var lines []string
	for _, d := range disks {
		line := fmt.Sprintf("%s %s %s %d", d.Device, d.Volume.Path, d.Volume.Format, d.Volume.Size)
		for _, flag := range []struct {
			is   bool
			name string
		}{{d.Volume.Sparse, "sparse"}, {d.ReadOnly, "read-only"}, {d.Image != nil, "image"}, {d.Base != nil, "base"}} {
			if flag.is {
				line += " " + flag.name
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func TestPlanDisks(t *testing.T) {
	const volume = "/var/lib/virt/storage/virt-task-5a6e215e-"
	for _, test := range []struct {
		name, config string
		want         []string
	}{
		{
			"an image is copied into a sparse qcow2 of its size",
			`disk { source { image = "a.img" } }`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 3221225472 sparse image"},
		},
		{
			"a chained disk has a base",
			`disk { chained = true size = "4GiB" source { image = "a.img" } }`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 4294967296 sparse image base"},
		},
		{
			"a chained disk may say that it is sparse",
			`disk { chained = true sparse = true format = "qcow2" source { image = "a.img" } }`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 3221225472 sparse image base"},
		},
		{
			"a qcow2 that is not sparse",
			`disk { size = 512 sparse = false }`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 512"},
		},
		{
			"a raw disk is not sparse",
			`disk { size = 512 format = "raw" }`,
			[]string{"vda " + volume + "vda.img raw 512"},
		},
		{
			"a raw disk that is sparse",
			`disk { size = 512 format = "raw" sparse = true }`,
			[]string{"vda " + volume + "vda.img raw 512 sparse"},
		},
		{
			"a disk that cannot be written",
			`disk { read_only = true source { image = "a.img" } }`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 3221225472 sparse read-only image"},
		},
		{
			"what can be said of every disk, said",
			`disk {
				bus_type = "virtio"
				kind     = "disk"
				driver   = "qemu"
				format   = "qcow2"
				pool     = "nomad"
				primary  = true
				size     = 512
			}`,
			[]string{"vda " + volume + "vda.qcow2 qcow2 512 sparse"},
		},
		{
			"the primary disk is first, the others keep their order",
			`disk { size = 512 } disk { size = 1024 } disk { primary = true size = 1536 }`,
			[]string{
				"vda " + volume + "vda.qcow2 qcow2 1536 sparse",
				"vdb " + volume + "vdb.qcow2 qcow2 512 sparse",
				"vdc " + volume + "vdc.qcow2 qcow2 1024 sparse",
			},
		},
		{
			"a disk that has a name keeps it",
			`disk { size = 512 devname = "vda" }
			 disk { size = 1024 primary = true }
			 disk { size = 1536 devname = "vdz" }
			 disk { size = 2048 }`,
			[]string{
				"vdb " + volume + "vdb.qcow2 qcow2 1024 sparse",
				"vda " + volume + "vda.qcow2 qcow2 512 sparse",
				"vdz " + volume + "vdz.qcow2 qcow2 1536 sparse",
				"vdc " + volume + "vdc.qcow2 qcow2 2048 sparse",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, summary(mustPlan(t, newRequest(t, test.config)).Disks)); diff != "" {
				t.Errorf("the disks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeviceNamesGoOnAfterVdz(t *testing.T) {
	config := `disk { size = 512 primary = true } ` + strings.Repeat(`disk { size = 512 } `, 27)
	disks := mustPlan(t, newRequest(t, config)).Disks
	if len(disks) != 28 {
		t.Fatalf("28 disks that are alike are %d, want each to stay", len(disks))
	}
	for i, want := range map[int]string{0: "vda", 1: "vdb", 25: "vdz", 26: "vdaa", 27: "vdab"} {
		if got := disks[i].Device; got != want {
			t.Errorf("disk %d is %s, want %s", i, got, want)
		}
	}
	if got := diskName(26 + 26*26 - 1); got != "vdzz" {
		t.Errorf("the last disk of two letters is %s, want vdzz", got)
	}
}

func TestVolumesAreInThePoolThatTheDiskNames(t *testing.T) {
	r := newRequest(t, `
		disk { primary = true pool = "fast" chained = true source { image = "a.img" } }
		disk { size = 512 }`)
	r.config.StoragePools.Directory["fast"] = DirectoryPool{Path: "/srv/fast"}
	spec := mustPlan(t, r)
	for what, v := range map[string]struct {
		volume vm.Volume
		want   string
	}{
		"primary disk":    {spec.Disks[0].Volume, "fast: /srv/fast/virt-task-5a6e215e-vda.qcow2"},
		"its base":        {spec.Disks[0].Base.Volume, "fast: /srv/fast/base-0123456789abcdef0123456789abcdef.qcow2"},
		"base's staging":  {spec.Disks[0].Base.Staging, "fast: /srv/fast/virt-task-5a6e215e-vda-base.qcow2"},
		"seed":            {spec.SeedVolume, "fast: /srv/fast/virt-task-5a6e215e-seed.iso"},
		"disk by default": {spec.Disks[1].Volume, "nomad: /var/lib/virt/storage/virt-task-5a6e215e-vdb.qcow2"},
	} {
		if got := v.volume.Pool + ": " + v.volume.Path; got != v.want {
			t.Errorf("the %s is in %s, want %s", what, got, v.want)
		}
	}
}

func TestTasksThatChainOnAnImageShareItsBase(t *testing.T) {
	const config = `disk { chained = true source { image = "a.img" } }`
	one, other := newRequest(t, config), newRequest(t, config)
	other.nomad.Name, other.nomad.ID = "another", other.nomad.AllocID+"/another/01234567"
	a, b := mustPlan(t, one).Disks[0], mustPlan(t, other).Disks[0]
	if a.Base.Path != b.Base.Path {
		t.Errorf("two tasks have the bases %s and %s of one image, want one base", a.Base.Path, b.Base.Path)
	}
	if a.Base.Staging.Path == b.Base.Staging.Path {
		t.Errorf("two tasks make a base at the same path %s, want each its own", a.Base.Staging.Path)
	}
}

func TestDiskSizes(t *testing.T) {
	for size, want := range map[string]vm.Bytes{
		"":              imageSize, // the image's
		"3221225472":    3 * vm.GiB,
		"4000000001":    4000000512, // whole blocks
		"4GB":           4000000000,
		"20 GB":         20000000000,
		"10GiB":         10 * vm.GiB,
		"10 GiB":        10 * vm.GiB,
		"10gib":         10 * vm.GiB,
		"3.5GiB":        3*vm.GiB + 512*vm.MiB,
		"4096MiB":       4 * vm.GiB,
		"4294967296  B": 4 * vm.GiB,
		"2TiB":          2048 * vm.GiB,
	} {
		r := newRequest(t, oneDisk)
		r.task.Disks[0].Size = size
		if got := mustPlan(t, r).Disks[0].Volume.Size; got != want {
			t.Errorf("size = %q makes a disk of %d bytes, want %d", size, got, want)
		}
	}
}

func TestDiskOfARawImageHasWholeBlocks(t *testing.T) {
	r := newRequest(t, oneDisk)
	r.images[0].Size = 1000
	if got := mustPlan(t, r).Disks[0].Volume.Size; got != 1024 {
		t.Errorf("an image of 1000 bytes makes a disk of %d, want 1024", got)
	}
}

func TestPlanRefusesAnImageThatIsTooLarge(t *testing.T) {
	r := newRequest(t, oneDisk)
	huge := *r.images[0]
	huge.Size = 1<<64 - 1
	r.images[0] = &huge
	_, p := plan(r)
	if len(p) != 1 || !strings.HasPrefix(p[0], "config.disk[0].source.image: its virtual size of ") {
		t.Errorf("the problems are %q, want one, of the image's size", p)
	}
}

func TestPlanRefusesSizes(t *testing.T) {
	for size, want := range map[string]string{
		"0":                      "a disk of no size cannot be made",
		"0GiB":                   "a disk of no size cannot be made",
		"0.1":                    "a disk of no size cannot be made",
		"-1GiB":                  `"-1GiB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"10,5GiB":                `"10,5GiB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"3PiB":                   "3PiB is more than a disk can have, 2048TiB",
		"15EiB":                  "15EiB is more than a disk can have, 2048TiB",
		"ten":                    `"ten" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"GiB":                    `"GiB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"10XB":                   `"10XB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"1.2.3GB":                `"1.2.3GB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"18446744073709551616":   `"18446744073709551616" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"99999999999999999999GB": `"99999999999999999999GB" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
		"3221225471":             "3221225471 is less than the image's virtual size of 3GiB; leave it out, or make it larger",
		"3GB":                    "3GB is less than the image's virtual size of 3GiB; leave it out, or make it larger",
	} {
		r := newRequest(t, oneDisk)
		r.task.Disks[0].Size = size
		_, p := plan(r)
		if diff := cmp.Diff([]string{"config.disk[0].size: " + want}, []string(p)); diff != "" {
			t.Errorf("the problems of size = %q (-want +got):\n%s", size, diff)
		}
	}
}

func TestPlanRefusesDisks(t *testing.T) {
	attribute := func(name, value, want string) refusal {
		return refusal{
			name:   name + " " + value,
			config: fmt.Sprintf(`disk { %s = %q source { image = "a.img" } }`, name, value),
			want:   []string{"config.disk[0]." + name + ": " + want},
		}
	}
	cephToo := func(r *request) {
		r.config.StoragePools.Directory["fast"] = DirectoryPool{Path: "/srv/fast"}
		r.config.StoragePools.Ceph = map[string]CephPool{"remote": {}}
	}
	testRefusals(t, []refusal{
		{name: "none", want: []string{`config.disk: is missing; a VM needs one: disk { source { image = "…" } }`}},
		{name: "empty without a size", config: `disk {}`, want: []string{
			"config.disk[0].size: is missing; an empty disk needs it",
		}},

		{name: "no primary disk", config: `disk { size = 1 } disk { size = 1 }`, want: []string{
			"config.disk: none of the 2 disks is primary; set primary = true in the one to boot from",
		}},
		{
			name:   "two primary disks",
			config: `disk { size = 1 } disk { size = 1 primary = true } disk { size = 1 primary = true }`,
			want:   []string{"config.disk[2].primary: disk[1] is the primary disk already, there is only one"},
		},

		attribute("devname", "sda", `"sda" is no name of a virtio disk; write vda, vdb and so on, or leave it out`),
		attribute("devname", "vd", `"vd" is no name of a virtio disk; write vda, vdb and so on, or leave it out`),
		attribute("devname", "vda1", `"vda1" is no name of a virtio disk; write vda, vdb and so on, or leave it out`),
		attribute("devname", "../vda", `"../vda" is no name of a virtio disk; write vda, vdb and so on, or leave it out`),
		{
			name:   "a devname twice",
			config: `disk { size = 1 primary = true devname = "vdb" } disk { size = 1 devname = "vdb" }`,
			want:   []string{"config.disk[1].devname: disk[0] is vdb already"},
		},

		attribute("bus_type", "scsi", `"scsi" is not supported yet; use virtio, or leave it out`),
		attribute("bus_type", "sata", `"sata" is not supported yet; use virtio, or leave it out`),
		attribute("bus_type", "ide", `"ide" is not supported yet; use virtio, or leave it out`),
		attribute("bus_type", "usb", `"usb" is not supported yet; use virtio, or leave it out`),
		attribute("bus_type", "nvme", `"nvme" is none of virtio, scsi, sata, ide, usb`),
		attribute("kind", "cdrom", `"cdrom" is not supported yet; use disk, or leave it out`),
		attribute("kind", "lun", `"lun" is not supported yet; use disk, or leave it out`),
		attribute("kind", "floppy", `"floppy" is none of disk, cdrom, lun`),
		attribute("driver", "file", `"file" is none of qemu`),
		attribute("format", "vmdk", `"vmdk" is none of qcow2, raw`),
		attribute("volume", "/dev/vdb", "disks on Nomad volumes are not supported yet"),

		{
			name:   "a source of two things",
			config: `disk { source { image = "a.img" volume = "b" } }`,
			want:   []string{"config.disk[0].source: has both an image and a volume; a disk is made from one of them"},
		},
		{
			name:   "a source volume",
			config: `disk { source { volume = "b" } }`,
			want:   []string{"config.disk[0].source.volume: is not supported yet; use an image"},
		},
		{
			name:   "a source of nothing",
			config: `disk { size = 1 source { format = "raw" } }`,
			want:   []string{"config.disk[0].source.image: is missing"},
		},
		{
			name:   "an image that cannot be used is told of by whoever opened it",
			config: oneDisk,
			change: func(r *request) { r.images[0] = nil },
		},

		{
			name:   "chained on nothing",
			config: `disk { chained = true size = 1 }`,
			want:   []string{"config.disk[0].chained: a chained disk overlays its source, and there is none"},
		},
		{
			name:   "chained and raw",
			config: `disk { chained = true format = "raw" source { image = "a.img" } }`,
			want:   []string{"config.disk[0].format: a chained disk has to be qcow2, raw has no overlays; leave format out"},
		},
		{
			name:   "chained and not sparse",
			config: `disk { chained = true sparse = false source { image = "a.img" } }`,
			want:   []string{"config.disk[0].sparse: a chained disk is always sparse; leave it out"},
		},

		{
			name:   "a pool that is not there",
			config: `disk { pool = "slow" source { image = "a.img" } }`,
			change: cephToo,
			want:   []string{`config.disk[0].pool: there is no storage pool "slow" on this host, there are: fast, nomad`},
		},
		{
			name:   "a Ceph pool",
			config: `disk { pool = "remote" source { image = "a.img" } }`,
			change: cephToo,
			want:   []string{`config.disk[0].pool: "remote" is a Ceph pool, which is not supported yet`},
		},
		{
			name:   "a Ceph pool by default",
			config: oneDisk,
			change: func(r *request) { cephToo(r); r.config.StoragePools.Default = "remote" },
			want:   []string{`config.disk[0].pool: "remote" is a Ceph pool, which is not supported yet`},
		},

		{
			name: "each disk by its place",
			config: `
				disk { primary = true source { image = "a.img" } }
				disk { size = "big" }
				disk { size = 1 bus_type = "ide" kind = "lun" }`,
			want: []string{
				`config.disk[1].size: "big" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
				`config.disk[2].bus_type: "ide" is not supported yet; use virtio, or leave it out`,
				`config.disk[2].kind: "lun" is not supported yet; use disk, or leave it out`,
			},
		},
	})
}

func TestSpecListsTheVolumesOfTheVMAlone(t *testing.T) {
	spec := mustPlan(t, newRequest(t, `
		disk { primary = true chained = true source { image = "a.img" } }
		disk { size = 1 }`))
	var got []string
	for _, v := range spec.Volumes() {
		got = append(got, v.Name)
	}
	want := []string{
		"virt-task-5a6e215e-vda." + image.Qcow2,
		"virt-task-5a6e215e-vda-base." + image.Qcow2,
		"virt-task-5a6e215e-vdb." + image.Qcow2,
		"virt-task-5a6e215e-seed.iso",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the volumes (-want +got):\n%s", diff)
	}
}
