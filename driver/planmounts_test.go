package driver

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/vm"
)

func TestNomadVolumeIsADisk(t *testing.T) {
	device := mount{taskPath: "/dev/vdb", hostPath: "/dev/loop7", kind: mountsDevice, size: 10 * vm.GiB}
	readOnly := device
	readOnly.readOnly = true
	exact := device
	exact.size = imageSize
	for name, test := range map[string]struct {
		disk  string
		mount mount
		want  string
	}{
		"attached raw, with the name of its mount": {
			`volume = "/dev/vdb"`, device, "vdb virtio /dev/loop7 raw 10GiB",
		},
		"with all that may be said of it": {
			`volume = "/dev/vdb" format = "raw" driver = "qemu" kind = "disk" bus_type = "scsi" devname = "sdq"`, device,
			"sdq scsi /dev/loop7 raw 10GiB",
		},
		"read-only as its mount is": {
			`volume = "/dev/vdb"`, readOnly, "vdb virtio /dev/loop7 raw 10GiB read-only",
		},
		"read-only in this task": {
			`volume = "/dev/vdb" read_only = true`, device, "vdb virtio /dev/loop7 raw 10GiB read-only",
		},
		"with an image of its size, for a device that is blank": {
			`volume = "/dev/vdb" source { image = "a.img" }`, exact,
			"vdb virtio /dev/loop7 raw 3GiB from /var/lib/virt/images/a.img",
		},
		"with an image, and read-only in this task": {
			`volume = "/dev/vdb" read_only = true source { image = "a.img" }`, device,
			"vdb virtio /dev/loop7 raw 10GiB read-only from /var/lib/virt/images/a.img",
		},
		"with an image that is written once in each allocation": {
			`volume = "/dev/vdb" source { image = "a.img" overwrite = true }`, device,
			"vdb virtio /dev/loop7 raw 10GiB from /var/lib/virt/images/a.img unless " +
				"/var/lib/nomad/alloc/c20ee15a-6d3c-4a9e-8f3e-2b1f0d4c7a55/virt-task/.written-vdb",
		},
		"as a CD-ROM": {
			`volume = "/dev/vdb" kind = "cdrom" devname = "hda"`, device, "hda ide /dev/loop7 raw 10GiB cdrom read-only",
		},
		"as a lun": {
			`volume = "/dev/vdb" kind = "lun" devname = "sda"`, device, "sda scsi /dev/loop7 raw 10GiB lun",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, `disk { size = "1MiB" primary = true devname = "vda" } disk { `+test.disk+` }`)
			mounting(test.mount)(&r)
			spec := mustPlan(t, r)
			if got := line(spec.Disks[1]); got != test.want {
				t.Errorf("the disk is %q, want %q", got, test.want)
			}
			for _, s := range spec.Shares {
				if s.Source == "/dev/loop7" {
					t.Errorf("the device is shared as %s, too", s.Target)
				}
			}
		})
	}
}

// Of a Nomad volume nothing is in a pool; what the guest is told is.
func TestSeedIsInThePoolOfThePrimaryDiskOrTheDefault(t *testing.T) {
	for _, test := range []struct{ config, byDefault, pool, path string }{
		{oneDisk, "nomad", "nomad", "/var/lib/virt/storage/virt-task-5a6e215e-seed.iso"},
		{oneDisk, "fast", "fast", "/srv/fast/virt-task-5a6e215e-seed.iso"},
		{`disk { pool = "fast" size = "1MiB" }`, "nomad", "fast", "/srv/fast/virt-task-5a6e215e-seed.iso"},
		{`disk { pool = "remote" size = "1MiB" }`, "nomad", "remote", ""},
		{`disk { volume = "/dev/vdb" }`, "nomad", "nomad", "/var/lib/virt/storage/virt-task-5a6e215e-seed.iso"},
		{`disk { volume = "/dev/vdb" primary = true } disk { pool = "fast" size = "1MiB" }`, "nomad", "nomad",
			"/var/lib/virt/storage/virt-task-5a6e215e-seed.iso"},
		{`disk { volume = "/dev/vdb" }`, "remote", "remote", ""},
	} {
		r := newRequest(t, test.config)
		r.config.StoragePools.Default = test.byDefault
		if r.task.Disks[0].Volume != "" {
			devices("/dev/vdb")(&r)
		}
		want := vm.Volume{Pool: test.pool, Name: "virt-task-5a6e215e-seed.iso", Path: test.path, Format: "raw", Sparse: true}
		if test.path == "" {
			want.RBD = r.config.StoragePools.Ceph[test.pool].rbd(test.pool)
		}
		if diff := cmp.Diff(want, mustPlan(t, r).SeedVolume); diff != "" {
			t.Errorf("the seed with %s and the default pool %s (-want +got):\n%s", test.config, test.byDefault, diff)
		}
	}
}

func TestPlanRefusesNomadVolumes(t *testing.T) {
	attribute := func(name, value string) refusal {
		return refusal{
			name:   name,
			config: fmt.Sprintf(`disk { volume = "/dev/vdb" %s = %s }`, name, value),
			change: devices("/dev/vdb"),
			want: []string{"config.disk[0]." + name +
				": does not go with volume: a Nomad volume is there already; leave it out"},
		}
	}
	mounted := func(change func(*mount)) func(*request) {
		m := mount{taskPath: "/dev/vdb", hostPath: "/srv/v", kind: mountsDevice, size: vm.GiB}
		change(&m)
		return mounting(m)
	}
	readOnly := mounted(func(m *mount) { m.readOnly = true })
	const image = `disk { volume = "/dev/vdb" source { image = "a.img" } }`
	testRefusals(t, []refusal{
		attribute("size", `"1GiB"`),
		attribute("pool", `"nomad"`),
		attribute("sparse", "false"),
		attribute("sparse", "true"),
		attribute("chained", "true"),
		attribute("keep", `"1h"`),
		{
			name:   "source.volume",
			config: `disk { volume = "/dev/vdb" source { volume = "golden" } }`,
			change: devices("/dev/vdb"),
			want:   []string{"config.disk[0].source.volume: does not go with volume: a Nomad volume is there already; leave it out"},
		},
		{
			name:   "a source of nothing",
			config: `disk { volume = "/dev/vdb" source { overwrite = true } }`,
			change: devices("/dev/vdb"),
			want:   []string{"config.disk[0].source.image: is missing; name one, or leave source out to take the volume as it is"},
		},
		{
			name:   "format qcow2",
			config: `disk { volume = "/dev/vdb" format = "qcow2" }`,
			change: devices("/dev/vdb"),
			want:   []string{"config.disk[0].format: a Nomad volume is attached raw; leave format out"},
		},

		{
			name:   "not mounted",
			config: `disk { volume = "/dev/vdb" }`,
			want:   []string{`config.disk[0].volume: the task has no volume_mount with the destination "/dev/vdb"`},
		},
		{
			name:   "not mounted there",
			config: `disk { volume = "/dev/vdc" } disk { volume = "/dev/vdb" primary = true } disk { volume = "/dev/vda" }`,
			change: mounting(
				mount{taskPath: "/dev/vdb", hostPath: "/dev/loop7", kind: mountsDevice, size: vm.GiB},
				mount{taskPath: "/dev/vda", hostPath: "/dev/loop8", kind: mountsDevice, size: vm.GiB},
				mount{taskPath: "/data", hostPath: "/srv/data"}),
			want: []string{`config.disk[0].volume: the task has no volume_mount with the destination "/dev/vdc"; ` +
				"those of its block devices are: /dev/vdb, /dev/vda"},
		},
		{
			name:   "not below /dev/",
			config: `disk { volume = "/data" }`,
			change: devices("/data"),
			want: []string{`config.disk[0].volume: "/data" is not below /dev/; ` +
				"mount the volume there, its last part names the disk in the guest"},
		},
		{
			name:   "the name of a volume rather than of its mount",
			config: `disk { volume = "data" }`,
			change: mounting(mount{taskPath: "/data", hostPath: "/srv/data"}),
			want:   []string{`config.disk[0].volume: the task has no volume_mount with the destination "data"`},
		},
		{
			name:   "a directory",
			config: `disk { volume = "/dev/vdb" }`,
			change: mounted(func(m *mount) { m.kind = mountsDirectory }),
			want: []string{"config.disk[0].volume: the volume mounted at /dev/vdb is no block device; " +
				"leave the disk out, and the guest sees it as a directory"},
		},
		{
			name:   "neither a device nor a directory",
			config: `disk { volume = "/dev/vdb" }`,
			change: mounted(func(m *mount) { m.kind = mountsNeither }),
			want: []string{
				`volume_mount with the destination "/dev/vdb": /srv/v is neither a directory nor a block device`,
			},
		},
		{
			name:   "not there",
			config: `disk { volume = "/dev/vdb" }`,
			change: mounted(func(m *mount) { m.kind, m.err = mountsNeither, errors.New("it is gone") }),
			want:   []string{`volume_mount with the destination "/dev/vdb": it is gone`},
		},
		{
			name:   "two disks on one",
			config: `disk { volume = "/dev/vdb" primary = true } disk { volume = "/dev/vdb" devname = "vdc" }`,
			change: devices("/dev/vdb"),
			want:   []string{"config.disk[1].volume: disk[0] is on that volume already"},
		},

		{
			name:   "an image for a volume that is mounted read-only",
			config: image,
			change: mounted(func(m *mount) { m.readOnly, m.size = true, imageSize }),
			want:   []string{"config.disk[0].source: the volume_mount is read-only, no image can be written to it; leave source out, or mount it writable"},
		},
		{
			name:   "an image that is larger than the volume",
			config: image,
			change: mounted(func(m *mount) { m.size = 2 * vm.GiB }),
			want:   []string{"config.disk[0].source.image: its virtual size of 3GiB is more than the volume has, 2GiB; take a larger volume"},
		},
		{
			name:   "an image that cannot be used is told of by whoever opened it",
			config: image,
			change: func(r *request) { devices("/dev/vdb")(r); r.sources[0].image = nil },
		},

		{
			name:   "mounted read-only, on a bus that has no read-only disks",
			config: `disk { volume = "/dev/vdb" devname = "sda" bus_type = "sata" }`,
			change: readOnly,
			want:   []string{"config.disk[0].bus_type: QEMU has no read-only disks on bus sata; use virtio, scsi or usb"},
		},
		{
			name:   "mounted read-only, as a CD-ROM",
			config: `disk { primary = true size = "1MiB" } disk { volume = "/dev/vdb" kind = "cdrom" devname = "hda" }`,
			change: readOnly,
		},
	})
}

func TestDirectoriesOfNomadAreInTheGuest(t *testing.T) {
	for _, kind := range []vm.ShareType{vm.VirtioFS, vm.NineP} {
		r := newRequest(t, `disk { volume = "/dev/vdb" }`)
		r.facts.VirtioFS = kind == vm.VirtioFS
		mounting(
			mount{taskPath: "/srv/data/old", hostPath: "/opt/volumes/old"},
			mount{taskPath: "/srv/data/", hostPath: "/opt/volumes/data"},
			mount{taskPath: "/dev/vdb", hostPath: "/dev/loop7", kind: mountsDevice, size: vm.GiB},
			mount{taskPath: "/etc/keys", hostPath: "/opt/volumes/keys", readOnly: true},
		)(&r)
		const at = "/run/nomad-driver-virt/virt-task-5a6e215e/"
		want := []vm.Share{ // each after that which it is in
			{Type: kind, Tag: "volume3", Source: "/opt/volumes/keys", Mount: at + "volume3", Target: "/etc/keys", ReadOnly: true},
			{Type: kind, Tag: "volume1", Source: "/opt/volumes/data", Mount: at + "volume1", Target: "/srv/data"},
			{Type: kind, Tag: "volume0", Source: "/opt/volumes/old", Mount: at + "volume0", Target: "/srv/data/old"},
		}
		spec := mustPlan(t, r)
		// The first are Nomad's own directories.
		if diff := cmp.Diff(want, spec.Shares[3:]); diff != "" {
			t.Errorf("the directories by %s (-want +got):\n%s", kind, diff)
		}
		if diff := cmp.Diff(spec.Shares, spec.Seed.Shares); diff != "" {
			t.Errorf("what the guest is told to mount is not what it is offered:\n%s", diff)
		}
		for _, s := range spec.Shares[:3] {
			if !s.ReadOnly {
				t.Errorf("%s can be written by the guest, want it read-only", s.Target)
			}
		}
	}
}

func TestPlanRefusesMounts(t *testing.T) {
	const taken = "is where the guest has the allocation's directories, which it cannot write to; mount the volume elsewhere"
	refused := func(destination, want string) refusal {
		return refusal{
			name:   "at " + destination,
			config: oneDisk,
			change: mounting(mount{taskPath: destination, hostPath: "/opt/volumes/data"}),
			want:   []string{fmt.Sprintf("volume_mount with the destination %q: %s", destination, want)},
		}
	}
	testRefusals(t, []refusal{
		refused("/", "is the root of the guest; mount the volume elsewhere"),
		refused("/alloc", taken),
		refused("/local/", taken),
		refused("/srv/../secrets", taken),
		refused("/local/data", taken),
		refused("/alloc/../secrets/data", taken),
		refused("data", "is no absolute path in the guest; begin it with /"),
		refused("", "is no absolute path in the guest; begin it with /"),
		{
			name:   "at what only looks taken",
			config: oneDisk,
			change: mounting(mount{taskPath: "/locale", hostPath: "/a"}, mount{taskPath: "/srv/alloc", hostPath: "/b"}),
		},
		{
			name:   "two at one place",
			config: oneDisk,
			change: mounting(mount{taskPath: "/data", hostPath: "/a"}, mount{taskPath: "//data/", hostPath: "/b"}),
			want:   []string{`volume_mount with the destination "//data/": is the destination of another volume, too; mount one of them elsewhere`},
		},
		{
			name:   "a block device that is no disk",
			config: oneDisk,
			change: devices("/dev/vdb"),
			want: []string{`volume_mount with the destination "/dev/vdb": the volume is a block device; ` +
				`name it in a disk of the task's config: disk { volume = "/dev/vdb" }`},
		},
		{
			name:   "what is neither, and what is not there",
			config: oneDisk,
			change: mounting(
				mount{taskPath: "/a", hostPath: "/opt/volumes/a", kind: mountsNeither},
				mount{taskPath: "/b", hostPath: "/opt/volumes/b", kind: mountsNeither, err: errors.New("it is gone")}),
			want: []string{
				`volume_mount with the destination "/a": /opt/volumes/a is neither a directory nor a block device`,
				`volume_mount with the destination "/b": it is gone`,
			},
		},
	})
}
