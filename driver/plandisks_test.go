package driver

import (
	"fmt"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

// line writes what is planned for a disk; ~ stands for the name of the VM.
func line(d vm.Disk) string {
	where := d.Volume.Path
	if d.Volume.Pool != "" {
		where = d.Volume.Pool + "/" + d.Volume.Name
	}
	words := []string{d.Device, d.Bus, where, d.Volume.Format, d.Volume.Size.String()}
	add := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(d.Kind != vm.HardDisk, "%s", d.Kind)
	add(d.Volume.Sparse, "sparse")
	add(d.ReadOnly, "read-only")
	add(d.Volume.Keep > 0, "kept for %s", d.Volume.Keep)
	if d.Image != nil {
		add(true, "from %s", d.Image.Path)
	}
	add(d.OverwriteOnce != "", "unless %s", d.OverwriteOnce)
	if d.Base != nil {
		add(true, "over %s", d.Base.Name)
		add(d.Base.Staging.Name != "", "made as %s", d.Base.Staging.Name)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "virt-task-5a6e215e", "~")
}

func lines(disks []vm.Disk) []string {
	var all []string
	for _, d := range disks {
		all = append(all, line(d))
	}
	return all
}

func TestPlanDisks(t *testing.T) {
	const (
		images = "/var/lib/virt/images/"
		base   = "base-0123456789abcdef0123456789abcdef"
	)
	for _, test := range []struct {
		name, config string
		want         []string
	}{
		{
			"an image is copied into a sparse qcow2 of its size",
			`disk { source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 3GiB sparse from " + images + "a.img"},
		},
		{
			"an image in a raw disk, which is not sparse",
			`disk { format = "raw" source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.img raw 3GiB from " + images + "a.img"},
		},
		{
			"an image in a raw disk that is sparse and grown",
			`disk { format = "raw" sparse = true size = "40GiB" source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.img raw 40GiB sparse from " + images + "a.img"},
		},
		{
			"a chained disk has a base",
			`disk { chained = true source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 3GiB sparse from " + images +
				"a.img over " + base + ".qcow2 made as ~-vda-base.qcow2"},
		},
		{
			"a chained disk is grown and may say what it is",
			`disk { chained = true sparse = true format = "qcow2" size = "4GiB" source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 4GiB sparse from " + images +
				"a.img over " + base + ".qcow2 made as ~-vda-base.qcow2"},
		},
		{
			"an empty qcow2 that is not sparse",
			`disk { size = "1MiB" sparse = false }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 1MiB"},
		},
		{
			"an empty second disk in the other pool",
			`disk { primary = true source { image = "a.img" } } disk { pool = "fast" size = "1GB" }`,
			[]string{
				"vda virtio nomad/~-vda.qcow2 qcow2 3GiB sparse from " + images + "a.img",
				"vdb virtio fast/~-vdb.qcow2 qcow2 953.7MiB sparse",
			},
		},
		{
			"a volume is copied",
			`disk { source { volume = "golden.qcow2" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 3GiB sparse from /var/lib/virt/storage/golden.qcow2"},
		},
		{
			"a volume of another pool is copied into a raw disk and grown",
			`disk { pool = "fast" format = "raw" size = "5GiB" source { volume = "golden.qcow2" } }`,
			[]string{"vda virtio fast/~-vda.img raw 5GiB from /srv/fast/golden.qcow2"},
		},
		{
			"a disk that is chained on a volume copies nothing, and the volume is not the driver's to make",
			`disk { chained = true size = "4GiB" source { volume = "golden.qcow2" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 4GiB sparse over golden.qcow2"},
		},
		{
			"a disk that is kept, and cannot be written",
			`disk { keep = "36h" read_only = true source { image = "a.img" } }`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 3GiB sparse read-only kept for 36h0m0s from " + images + "a.img"},
		},
		{
			"what can be said of every disk, said",
			`disk {
				bus_type  = "virtio"
				chained   = false
				devname   = "vda"
				driver    = "qemu"
				format    = "qcow2"
				keep      = "0"
				kind      = "disk"
				pool      = "nomad"
				primary   = true
				read_only = false
				size      = "1MiB"
				sparse    = true
			}`,
			[]string{"vda virtio nomad/~-vda.qcow2 qcow2 1MiB sparse"},
		},

		{
			"in Ceph an image is copied into a disk that is raw and sparse",
			`disk { pool = "remote" source { image = "a.img" } }`,
			[]string{"vda virtio remote/~-vda raw 3GiB sparse from " + images + "a.img"},
		},
		{
			"in Ceph a disk may say that it is raw and sparse",
			`disk { pool = "remote" format = "raw" sparse = true size = "40GiB" source { image = "a.img" } }`,
			[]string{"vda virtio remote/~-vda raw 40GiB sparse from " + images + "a.img"},
		},
		{
			"in Ceph a chained disk has a base",
			`disk { pool = "remote" chained = true size = "40GiB" source { image = "a.img" } }`,
			[]string{"vda virtio remote/~-vda raw 40GiB sparse from " + images +
				"a.img over " + base + " made as ~-vda-base"},
		},
		{
			"in Ceph a volume is cloned, chained or not",
			`disk { pool = "remote" primary = true source { volume = "golden" } }
			 disk { pool = "remote" chained = true size = "4GiB" source { volume = "golden" } }`,
			[]string{
				"vda virtio remote/~-vda raw 3GiB sparse over golden",
				"vdb virtio remote/~-vdb raw 4GiB sparse over golden",
			},
		},
		{
			"in Ceph an empty disk, which is kept",
			`disk { pool = "remote" size = "1GiB" keep = "90m" }`,
			[]string{"vda virtio remote/~-vda raw 1GiB sparse kept for 1h30m0s"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			disks := mustPlan(t, newRequest(t, test.config)).Disks
			if diff := cmp.Diff(test.want, lines(disks)); diff != "" {
				t.Errorf("the disks (-want +got):\n%s", diff)
			}
			for _, d := range disks {
				parent := ""
				if d.Base != nil {
					parent = d.Base.Name
				}
				if d.Volume.Parent != parent {
					t.Errorf("the parent of disk %s is %q, want %q: by it the volume is found to be in use", d.Device, d.Volume.Parent, parent)
				}
			}
		})
	}
}

func TestVolumesAreInThePoolThatTheDiskNames(t *testing.T) {
	spec := mustPlan(t, newRequest(t, `
		disk { primary = true pool = "fast" chained = true source { image = "a.img" } }
		disk { size = "1MiB" }
		disk { pool = "fast" chained = true source { volume = "golden.qcow2" } }
		disk { pool = "remote" chained = true source { image = "a.img" } }
		disk { pool = "remote" source { volume = "golden" } }`))
	d := spec.Disks
	for what, v := range map[string]struct {
		volume     vm.Volume
		pool, path string
	}{
		"primary disk":           {d[0].Volume, "fast", "/srv/fast/virt-task-5a6e215e-vda.qcow2"},
		"its base":               {d[0].Base.Volume, "fast", "/srv/fast/base-0123456789abcdef0123456789abcdef.qcow2"},
		"base's staging":         {d[0].Base.Staging, "fast", "/srv/fast/virt-task-5a6e215e-vda-base.qcow2"},
		"seed":                   {spec.SeedVolume, "fast", "/srv/fast/virt-task-5a6e215e-seed.iso"},
		"disk by default":        {d[1].Volume, "nomad", "/var/lib/virt/storage/virt-task-5a6e215e-vdb.qcow2"},
		"volume of a disk":       {d[2].Base.Volume, "fast", "/srv/fast/golden.qcow2"},
		"disk in Ceph":           {d[3].Volume, "remote", ""},
		"base in Ceph":           {d[3].Base.Volume, "remote", ""},
		"base's staging in Ceph": {d[3].Base.Staging, "remote", ""},
		"clone in Ceph":          {d[4].Volume, "remote", ""},
		"what is cloned in Ceph": {d[4].Base.Volume, "remote", ""},
	} {
		if v.volume.Pool != v.pool || v.volume.Path != v.path {
			t.Errorf("the %s is in pool %s at %q, want pool %s at %q", what, v.volume.Pool, v.volume.Path, v.pool, v.path)
		}
		if got, want := v.volume.RBD != nil, v.pool == "remote"; got != want {
			t.Errorf("the %s is in Ceph: %t, want %t", what, got, want)
		}
		if v.path != "" && path.Base(v.path) != v.volume.Name {
			t.Errorf("the %s is called %s, want what its file is: %s", what, v.volume.Name, path.Base(v.path))
		}
	}
}

func TestSpecListsTheVolumesOfTheVMAlone(t *testing.T) {
	r := newRequest(t, `
		disk { primary = true chained = true source { image = "a.img" } }
		disk { size = "1MiB" }
		disk { chained = true source { volume = "golden.qcow2" } }
		disk { volume = "/dev/vdz" source { image = "a.img" } }
		disk { pool = "remote" chained = true source { image = "a.img" } }
		disk { pool = "remote" source { volume = "golden" } }`)
	mounting(mount{taskPath: "/dev/vdz", hostPath: "/dev/loop7", kind: mountsDevice, size: 10 * vm.GiB})(&r)
	var got []string
	for _, v := range mustPlan(t, r).Volumes() {
		got = append(got, v.Pool+"/"+v.Name)
	}
	want := []string{
		"nomad/virt-task-5a6e215e-vda.qcow2",
		"nomad/virt-task-5a6e215e-vda-base.qcow2",
		"nomad/virt-task-5a6e215e-vdb.qcow2",
		"nomad/virt-task-5a6e215e-vdc.qcow2",
		"remote/virt-task-5a6e215e-vdd",
		"remote/virt-task-5a6e215e-vdd-base",
		"remote/virt-task-5a6e215e-vde",
		"nomad/virt-task-5a6e215e-seed.iso",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the volumes, of which the bases, the sources and Nomad's are others' (-want +got):\n%s", diff)
	}
}

func TestTasksThatChainOnAnImageShareItsBase(t *testing.T) {
	for _, pool := range []string{"nomad", "remote"} {
		config := fmt.Sprintf(`disk { pool = %q chained = true source { image = "a.img" } }`, pool)
		one, other := newRequest(t, config), newRequest(t, config)
		other.nomad.Name, other.nomad.ID = "another", other.nomad.AllocID+"/another/01234567"
		a, b := mustPlan(t, one).Disks[0], mustPlan(t, other).Disks[0]
		if diff := cmp.Diff(a.Base.Volume, b.Base.Volume); diff != "" {
			t.Errorf("two tasks have different bases of one image in pool %s, want one base:\n%s", pool, diff)
		}
		if a.Base.Staging.Name == b.Base.Staging.Name {
			t.Errorf("two tasks make a base under one name %s, want each its own", a.Base.Staging.Name)
		}
	}
}

// The base has the name that its content has in every pool; what it is grown to
// is the disk's affair.
func TestBaseIsAsLargeAsItsImage(t *testing.T) {
	r := newRequest(t, `disk { chained = true size = "10GiB" source { image = "a.img" } }`)
	r.sources[0].image.Size = 3*vm.GiB - 100
	base := mustPlan(t, r).Disks[0].Base
	want := []vm.Bytes{3*vm.GiB - 100, 3 * vm.GiB}
	if got := []vm.Bytes{base.Size, base.Staging.Size}; !cmp.Equal(got, want) {
		t.Errorf("the base is of %d bytes and made with %d, want %d, and %d in whole blocks", got[0], got[1], want[0], want[1])
	}
	if !base.Staging.Sparse {
		t.Error("the base is made in full, want it sparse: its holes are nobody's")
	}
}

func TestPlanRefusesDisks(t *testing.T) {
	testRefusals(t, []refusal{
		{name: "none", want: []string{`config.disk: is missing; a VM needs one: add a block disk, and in it a block source with image = "…"`}},
		{name: "empty without a size", config: `disk {}`, want: []string{
			"config.disk[0].size: is missing; an empty disk needs it",
		}},
		{name: "empty and in Ceph, without a size", config: `disk { pool = "remote" }`, want: []string{
			"config.disk[0].size: is missing; an empty disk needs it",
		}},
		{
			name:   "a pool that is not there",
			config: `disk { pool = "slow" source { image = "a.img" } }`,
			want:   []string{`config.disk[0].pool: there is no storage pool "slow" on this host, there are: fast, nomad, remote`},
		},
		{
			name:   "another driver",
			config: `disk { driver = "file" source { image = "a.img" } }`,
			want:   []string{`config.disk[0].driver: "file" is none of qemu`},
		},
		{
			name: "each disk by its place, and all that is wrong with it",
			config: `
				disk { primary = true source { image = "a.img" } }
				disk { size = "big" }
				disk { bus_type = "nvme" driver = "file" pool = "slow" keep = "for ever" chained = true }`,
			want: []string{
				`config.disk[2].driver: "file" is none of qemu`,
				`config.disk[2].bus_type: "nvme" is none of virtio, scsi, sata, ide, usb`,
				`config.disk[1].size: "big" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
				`config.disk[2].pool: there is no storage pool "slow" on this host, there are: fast, nomad, remote`,
				"config.disk[2].chained: " + noSource,
				`config.disk[2].keep: "for ever" is no duration; write it like 24h or 90m`,
			},
		},
	})
}
