package driver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanRefusesDurations(t *testing.T) {
	for keep, fine := range map[string]bool{
		"0": true, "0s": true, "24h": true, "1h30m": true, "1.5h": true, "10000h": true,
		"-1h": false, "1": false, "7d": false, "a day": false, "24 h": false, "h": false,
	} {
		r := newRequest(t, oneDisk)
		r.task.Disks[0].Keep = keep
		var want problems
		if !fine {
			want.addf("config.disk[0].keep", "%q is no duration; write it like 24h or 90m", keep)
		}
		_, got := plan(r)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the problems of keep = %q (-want +got):\n%s", keep, diff)
		}
	}
}

func TestPlanRefusesFormats(t *testing.T) {
	const image = ` source { image = "a.img" } }`
	refused := func(config, want string) refusal {
		return refusal{name: config, config: config + image, want: []string{want}}
	}
	testRefusals(t, []refusal{
		refused(`disk { format = "vmdk"`, `config.disk[0].format: "vmdk" is none of qcow2, raw`),
		refused(`disk { format = "QCOW2"`, `config.disk[0].format: "QCOW2" is none of qcow2, raw`),
		refused(`disk { chained = true format = "raw"`,
			"config.disk[0].format: a chained disk has to be qcow2, raw has no overlays; leave format out"),
		refused(`disk { chained = true sparse = false`,
			"config.disk[0].sparse: a chained disk is always sparse; leave it out"),

		refused(`disk { pool = "remote" format = "qcow2"`,
			"config.disk[0].format: disks in a Ceph pool are raw; leave format out"),
		refused(`disk { pool = "remote" format = "vdi"`, `config.disk[0].format: "vdi" is none of qcow2, raw`),
		refused(`disk { pool = "remote" sparse = false`,
			"config.disk[0].sparse: a disk in a Ceph pool is always sparse; leave it out"),
		refused(`disk { pool = "remote" chained = true sparse = false`,
			"config.disk[0].sparse: a disk in a Ceph pool is always sparse; leave it out"),
		{name: "raw in Ceph, chained", config: `disk { pool = "remote" chained = true format = "raw"` + image},
		{
			name:   "not sparse in a pool that is in Ceph by default",
			config: `disk { sparse = false` + image,
			change: func(r *request) { r.config.StoragePools.Default = "remote" },
			want:   []string{"config.disk[0].sparse: a disk in a Ceph pool is always sparse; leave it out"},
		},
	})
}

const noSource = `a chained disk overlays its source, and there is none; add source { image = "…" }, or leave chained out`

func TestPlanRefusesSources(t *testing.T) {
	ofFormat := func(format string) func(*request) {
		return func(r *request) { r.sources[0].image.Format, r.sources[0].volume.Format = format, format }
	}
	testRefusals(t, []refusal{
		{
			name:   "of two things",
			config: `disk { source { image = "a.img" volume = "b" } }`,
			want:   []string{"config.disk[0].source: has both an image and a volume; a disk is made from one of them"},
		},
		{
			name:   "of nothing",
			config: `disk { source { format = "raw" } }`,
			want:   []string{"config.disk[0].source: has neither an image nor a volume; name one, or leave source out for an empty disk"},
		},
		{
			name:   "that is written over what is not there",
			config: `disk { source { image = "a.img" overwrite = true } }`,
			want: []string{"config.disk[0].source.overwrite: is for disks on Nomad volumes; " +
				"other disks are new for each start of the task"},
		},
		{
			name:   "an image of a format that there is not",
			config: `disk { source { image = "a.ova" format = "ova" } }`,
			want:   []string{`config.disk[0].source.format: "ova" is none of raw, qcow2, vmdk, vdi, vhdx, vpc`},
		},
		{
			name:   "an image of a format that there is not, for a Nomad volume",
			config: `disk { volume = "/dev/vdb" source { image = "a.ova" format = "ova" } }`,
			change: func(r *request) {
				withDevice(false)(r)
				r.sources[0].image = nil // it was not looked for
			},
			want: []string{`config.disk[0].source.format: "ova" is none of raw, qcow2, vmdk, vdi, vhdx, vpc`},
		},
		{
			name:   "a volume with a path",
			config: `disk { source { volume = "../etc/x" } }`,
			want:   []string{`config.disk[0].source.volume: "../etc/x" is no name of a volume`},
		},
		{
			name:   "a hidden file",
			config: `disk { source { volume = ".a" } }`,
			want:   []string{`config.disk[0].source.volume: ".a" is no name of a volume`},
		},
		{name: "a volume of Ceph's with such a name", config: `disk { pool = "remote" source { volume = ".a" } }`},
		{
			name:   "a snapshot in Ceph, of a format that volumes there do not have",
			config: `disk { pool = "remote" source { volume = "a@b" format = "qcow2" } }`,
			want: []string{
				"config.disk[0].source.format: volumes of a Ceph pool are raw, not qcow2; leave it out",
				`config.disk[0].source.volume: "a@b" is no name of a volume`,
			},
		},
		{
			name:   "a format that there is not, in Ceph",
			config: `disk { pool = "remote" source { volume = "a" format = "ova" } }`,
			want:   []string{`config.disk[0].source.format: "ova" is none of raw, qcow2, vmdk, vdi, vhdx, vpc`},
		},
		{
			name:   "another VM's volume",
			config: `disk { source { volume = "web-5a6e215e-vda.qcow2" } }`,
			want: []string{`config.disk[0].source.volume: volume "web-5a6e215e-vda.qcow2" is a VM's own, which goes with its task or is ` +
				"kept for a look at it; give it, or a copy of it, another name to make disks from it"},
		},
		{
			name:   "an image that cannot be used is told of by whoever opened it",
			config: `disk { source { image = "a.img" } }`,
			change: func(r *request) { r.sources[0] = source{} },
		},
		{
			name:   "and so is a volume",
			config: `disk { chained = true source { volume = "b" } }`,
			change: func(r *request) { r.sources[0] = source{} },
		},

		{
			name:   "none for a chained disk",
			config: `disk { chained = true }`,
			want:   []string{"config.disk[0].chained: " + noSource},
		},
		{
			name:   "none for a chained disk in Ceph that has a size",
			config: `disk { pool = "remote" chained = true size = "1GiB" }`,
			want:   []string{"config.disk[0].chained: " + noSource},
		},
		{
			name:   "none for a CD-ROM",
			config: `disk { primary = true size = "1MiB" } disk { kind = "cdrom" }`,
			want:   []string{"config.disk[1].source: is missing; a CD-ROM needs an image or a volume"},
		},

		{name: "raw, chained", config: `disk { chained = true source { volume = "b" } }`, change: ofFormat("raw")},
		{name: "of another format, copied", config: `disk { source { volume = "b" } }`, change: ofFormat("vmdk")},
		{
			name:   "of another format, chained",
			config: `disk { chained = true source { volume = "b" } }`,
			change: ofFormat("vmdk"),
			want:   []string{"config.disk[0].chained: the volume is vmdk, and only raw and qcow2 are overlaid; leave chained out"},
		},
	})
}
