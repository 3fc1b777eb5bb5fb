package driver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"
)

// jobOf is a job with one task, whose group and task hold these blocks.
func jobOf(t *testing.T, inGroup, inTask, config string) *api.Job {
	t.Helper()
	job, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{Path: "job.hcl", Strict: true, Body: []byte(
		"job \"j\" {\ngroup \"g\" {\n" + inGroup + "\ntask \"t\" {\ndriver = \"virt\"\n" + inTask + "\nconfig {\n" + config + "\n}\n}\n}\n}\n")})
	if err != nil {
		t.Fatal(err)
	}
	job.Canonicalize()
	return job
}

const (
	blankDisk   = "disk {\nsize = \"1GiB\"\n}"
	imageDisk   = "disk {\nsource {\nimage = \"a.img\"\n}\n}"
	imageNeeds  = `config.disk[0].source.image: whether "a.img" is there, may be used, and is an image that fits`
	bridgeNeeds = `config.network_interface[0].bridge.name: whether the node has bridge "virbr0"`
	portsNeed   = bridgeNeeds + ", and whether the guest's address is known there beforehand, or is found first, for its ports to be published"
)

func TestCheckFindsWhatEveryNodeWouldRefuse(t *testing.T) {
	for _, test := range []struct {
		name, inGroup, inTask, config string
		problems                      []string
	}{
		{name: "nothing", config: blankDisk},
		{name: "no disk", config: "", problems: []string{`config.disk: is missing; a VM needs one: add a block disk, and in it a block source with image = "…"`}},
		{
			name:   "several things at once",
			config: "hostname = \"a_b\"\nvcpus = 0\n" + "disk {\nsize = \"big\"\n}",
			problems: []string{
				`config.disk[0].size: "big" is no size; write bytes, or a number and a unit: 20GB, 15GiB`,
				`config.vcpus: is 0, and has to be between 1 and 255`,
				`config.hostname: "a_b" is no label of RFC 1123: 1 to 63 letters, digits and hyphens, none at the ends`,
			},
		},
		{
			name:     "what the schema does not have",
			config:   "disc {}\n" + blankDisk,
			problems: []string{`config: Invalid label: No argument or block type is named "disc". Did you mean "disk"?`},
		},
		{
			name:     "a variable of the shell",
			config:   "cmds = [\"echo $${HOME}\"]\n" + blankDisk,
			problems: []string{`config: Unknown variable: There is no variable named "HOME".`},
		},
		{
			name:     "more vCPUs than cores",
			inTask:   "resources {\ncores = 2\n}",
			config:   "vcpus = 3\n" + blankDisk,
			problems: []string{"config.vcpus: is 3, and the task's reserved cores are 2, each of which is one vCPU: leave vcpus away, or use resources.cpu instead of resources.cores"},
		},
		{
			name:     "a device of the host",
			inTask:   "resources {\ndevice \"nvidia/gpu\" {}\n}",
			config:   blankDisk,
			problems: []string{"resources.device: devices of the host cannot be given to a VM yet"},
		},
		{
			name:     "a port that the group has not",
			inGroup:  "network {\nport \"http\" {}\n}",
			config:   blankDisk + "\nnetwork_interface {\nbridge {\nname = \"virbr0\"\nports = [\"https\"]\n}\n}",
			problems: []string{`config.network_interface[0].bridge.ports[0]: the group has no port "https"; it has: http`},
		},
		{
			name:     "another network mode",
			inGroup:  "network {\nmode = \"bridge\"\n}",
			config:   blankDisk,
			problems: []string{`group "g" network[0].mode: "bridge" is not supported by this driver; leave it out, or say host`},
		},
		{
			name:     "user data of no form",
			config:   blankDisk + "\nuser_data = <<E\nhello\nworld\nE",
			problems: []string{"config.user_data: "},
		},
		{
			name:     "an architecture that no host has",
			config:   blankDisk + "\nos {\narch = \"vax\"\n}",
			problems: []string{`config.os.arch: "vax" is none of the architectures that guests can have on this host: x86_64, i686, aarch64`},
		},
		{
			name:     "a bus that the machine type does not have",
			config:   "disk {\nsize = \"1GiB\"\nbus_type = \"ide\"\n}\nos {\nmachine = \"q35\"\n}",
			problems: []string{"config.disk[0].bus_type: the machine type has no ide; it has: virtio, scsi, sata, usb"},
		},
		{
			name:     "a source that no pool has, whatever its kind",
			config:   "disk {\nprimary = true\nsource {\nvolume = \"../etc/x\"\n}\n}\ndisk {\nsource {\nimage = \"a.ova\"\nformat = \"ova\"\n}\n}",
			problems: []string{`config.disk[0].source.volume: "../etc/x" is no name of a volume`, `config.disk[1].source.format: "ova" is none of raw, `},
		},
		{
			name:     "a volume where the guest has the allocation",
			inGroup:  "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:   "volume_mount {\nvolume = \"v\"\ndestination = \"/local/x\"\n}",
			config:   blankDisk,
			problems: []string{`volume_mount with the destination "/local/x": is where the guest has the allocation's directories, which it cannot write to; mount the volume elsewhere`},
		},
		{
			name:     "a destination that the job itself fills in",
			inGroup:  "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:   "env {\nMNT = \"data\"\n}\nvolume_mount {\nvolume = \"v\"\ndestination = \"${MNT}\"\n}",
			config:   blankDisk,
			problems: []string{`volume_mount with the destination "data": is no absolute path in the guest; begin it with /`},
		},
		{
			name:     "a destination with a variable that nobody has",
			inGroup:  "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:   "volume_mount {\nvolume = \"v\"\ndestination = \"${MNT}\"\n}",
			config:   blankDisk,
			problems: []string{`volume_mount with the destination "${MNT}": is no absolute path in the guest; begin it with /`},
		},
		{
			name:    "more disks on volumes than the client can mount somewhere",
			inGroup: "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:  "volume_mount {\nvolume = \"v\"\ndestination = \"/dev/${NOMAD_META_dev}\"\n}",
			config:  "disk {\nvolume = \"/dev/vdb\"\nprimary = true\n}\ndisk {\nvolume = \"/dev/vdc\"\n}",
			problems: []string{
				`config.disk[1].volume: the task has no volume_mount with the destination "/dev/vdc"; those of its block devices are: /dev/vdb`,
			},
		},
		{
			name:     "an image for a volume that is read-only is not known to be wrong before it is looked at",
			inGroup:  "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\nread_only = true\n}",
			inTask:   "volume_mount {\nvolume = \"v\"\ndestination = \"/dev/vdb\"\n}",
			config:   blankDisk + "\ndisk {\nvolume = \"/dev/vdb\"\nsize = \"1GiB\"\n}",
			problems: []string{"config.disk: none of the 2 disks is primary; set primary = true in the one to boot from", "config.disk[1].size: does not go with volume: a Nomad volume is there already; leave it out"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			checks := CheckJob(jobOf(t, test.inGroup, test.inTask, test.config), nil)
			if len(checks) != 1 {
				t.Fatalf("want one check for one task, got %+v", checks)
			}
			got := checks[0].Problems
			same := len(got) == len(test.problems)
			for i := range min(len(got), len(test.problems)) {
				same = same && strings.HasPrefix(got[i], test.problems[i])
			}
			if !same {
				t.Errorf("want these problems:\n%s\ngot:\n%s", strings.Join(test.problems, "\n"), strings.Join(got, "\n"))
			}
		})
	}
}

func TestCheckSaysWhatOnlyTheNodeCanTell(t *testing.T) {
	withPools := &Config{StoragePools: &StoragePools{Ceph: map[string]CephPool{"c": {Authentication: &CephAuthentication{}}}}}
	for _, test := range []struct {
		name, inGroup, inTask, config string
		of                            *Config
		problems, unchecked           []string
	}{
		{name: "nothing", config: blankDisk},
		{name: "an image", config: imageDisk, unchecked: []string{imageNeeds}},
		{
			name:    "ports on a bridge",
			inGroup: "network {\nport \"http\" {}\n}",
			config:  blankDisk + "\nnetwork_interface {\nbridge {\nname = \"virbr0\"\nports = [\"http\"]\n}\n}", unchecked: []string{portsNeed},
		},
		{name: "a bridge", config: blankDisk + "\nnetwork_interface {\nbridge {\nname = \"virbr0\"\n}\n}", unchecked: []string{bridgeNeeds}},
		{
			name:      "a pool",
			config:    "disk {\nsize = \"1GiB\"\npool = \"c\"\n}",
			unchecked: []string{`config.disk[0].pool: whether the node has storage pool "c"`},
		},
		{name: "a pool that the configuration has", of: withPools, config: "disk {\nsize = \"1GiB\"\npool = \"c\"\n}"},
		{
			name:     "a pool that the configuration does not have",
			of:       withPools,
			config:   "disk {\nsize = \"1GiB\"\npool = \"d\"\n}",
			problems: []string{`config.disk[0].pool: there is no storage pool "d" on this host, there are: c`},
		},
		{
			name:   "what is wrong in one kind of pool",
			config: "disk {\nformat = \"qcow2\"\nsize = \"1GiB\"\n}",
			unchecked: []string{
				"config.disk[0].format: disks in a Ceph pool are raw; leave format out (if the pool is in Ceph)",
			},
		},
		{
			name:     "what is wrong in the kind of pool that it is",
			of:       withPools,
			config:   "disk {\nformat = \"qcow2\"\nsize = \"1GiB\"\n}",
			problems: []string{"config.disk[0].format: disks in a Ceph pool are raw; leave format out"},
		},
		{
			name:      "a bus of one machine type",
			config:    "disk {\nsize = \"1GiB\"\nbus_type = \"ide\"\n}",
			unchecked: []string{"config.disk[0].bus_type: the machine type has no ide; it has: virtio, scsi, sata, usb (with machine type q35)"},
		},
		{
			name:   "what the client fills in",
			config: "disk {\nsize = \"${meta.size}\"\nsource {\nimage = \"${attr.kernel.name}.img\"\n}\n}\ncmds = [\"echo ${NOMAD_ALLOC_ID}\"]",
			unchecked: []string{
				"config.disk[0].size: the client fills in what it depends on",
				"config.disk[0].source.image: the client fills in what it depends on",
			},
		},
		{
			name:   "which disk is primary",
			config: "disk {\nsize = \"1GiB\"\nprimary = \"${meta.first}\"\n}\n" + blankDisk,
			unchecked: []string{
				"config.disk[0].primary: the client fills in what it depends on",
			},
		},
		{
			name:      "what the job itself says, the client fills in the same",
			config:    "hostname = \"${NOMAD_JOB_NAME}-${SITE}\"\n" + imageDisk,
			inTask:    "env {\nSITE = \"x\"\n}",
			unchecked: []string{imageNeeds},
		},
		{
			name:      "a variable that a template may bring",
			inTask:    "template {\ndata = \"\"\ndestination = \"local/e\"\nenv = true\n}",
			config:    "hostname = \"$${SITE}\"\n" + blankDisk,
			unchecked: []string{"config.hostname: the client fills in what it depends on"},
		},
		{
			name:      "a volume",
			inGroup:   "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:    "volume_mount {\nvolume = \"v\"\ndestination = \"/dev/vdb\"\n}",
			config:    "disk {\nvolume = \"/dev/vdb\"\n}",
			unchecked: []string{`volume_mount with the destination "/dev/vdb": whether volume "v" is a block device`},
		},
		{
			name:      "where a volume is mounted",
			inGroup:   "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:    "meta {\nmnt = \"/srv/data\"\n}\nvolume_mount {\nvolume = \"v\"\ndestination = \"${NOMAD_META_mnt}\"\n}",
			config:    blankDisk,
			unchecked: []string{`volume_mount with the destination "${NOMAD_META_mnt}": the client fills in what it depends on`},
		},
		{
			name:      "where a volume is mounted that is a disk",
			inGroup:   "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:    "volume_mount {\nvolume = \"v\"\ndestination = \"/dev/${meta.dev}\"\n}",
			config:    "disk {\nvolume = \"/dev/vdb\"\n}",
			unchecked: []string{`volume_mount with the destination "/dev/${meta.dev}": the client fills in what it depends on`},
		},
		{
			name:      "where a volume is mounted, by what a template may bring",
			inGroup:   "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:    "template {\ndata = \"\"\ndestination = \"local/e\"\nenv = true\n}\nvolume_mount {\nvolume = \"v\"\ndestination = \"${MNT}\"\n}",
			config:    blankDisk,
			unchecked: []string{`volume_mount with the destination "${MNT}": the client fills in what it depends on`},
		},
		{
			name:    "which disk a volume is",
			inGroup: "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:  "volume_mount {\nvolume = \"v\"\ndestination = \"/dev/${NOMAD_META_dev}\"\n}",
			config:  "disk {\nvolume = \"/dev/${NOMAD_META_dev}\"\nprimary = true\n}\ndisk {\nvolume = \"/dev/vdc\"\n}",
			unchecked: []string{
				"config.disk[0].volume: the client fills in what it depends on",
				`volume_mount with the destination "/dev/${NOMAD_META_dev}": the client fills in what it depends on`,
			},
		},
		{
			name:      "a volume and a destination that the job itself says",
			inGroup:   "volume \"v\" {\ntype = \"host\"\nsource = \"s\"\n}",
			inTask:    "env {\nDEV = \"vdb\"\nV = \"v\"\n}\nvolume_mount {\nvolume = \"${V}\"\ndestination = \"/dev/${DEV}\"\n}",
			config:    "disk {\nvolume = \"/dev/vdb\"\n}",
			unchecked: []string{`volume_mount with the destination "/dev/vdb": whether volume "v" is a block device`},
		},
		{
			name:   "machine, architecture, mounts, user data and device",
			config: blankDisk + "\nos {\narch = \"aarch64\"\nmachine = \"virt\"\n}\nmounts = \"virtiofs\"\nuser_data = \"a.yml\"\nnetwork_interface {\nmacvtap {\ndevice = \"eth0\"\n}\n}",
			unchecked: []string{
				"config.os.arch: whether the node runs aarch64 guests",
				`config.os.machine: whether the node's QEMU has machine type "virt"`,
				"config.mounts: whether the node has virtiofs",
				`config.user_data: whether file "a.yml" is there, and what is in it`,
				`config.network_interface[0].macvtap.device: whether the node has network device "eth0", and does not filter what VMs send (nwfilter)`,
			},
		},
		{
			name:   "9p, and macvtap on nodes whose configuration is known",
			of:     withPools,
			config: blankDisk + "\nmounts = \"9p\"\nnetwork_interface {\nmacvtap {\ndevice = \"eth0\"\n}\n}",
			unchecked: []string{
				"config.mounts: whether QEMU is root on the node, which 9p takes",
				`config.network_interface[0].macvtap.device: whether the node has network device "eth0"`,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.of != nil {
				config := test.of.withDefaults()
				test.of = &config
			}
			got := CheckJob(jobOf(t, test.inGroup, test.inTask, test.config), test.of)
			want := []Check{{Group: "g", Task: "t", Problems: test.problems, Unchecked: test.unchecked}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the check (-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckWarnsOfOldNames(t *testing.T) {
	checks := CheckJob(jobOf(t, "", "", `image = "a.img"`), nil)
	if len(checks) != 1 || len(checks[0].Warnings) != 1 || len(checks[0].Problems) > 0 {
		t.Errorf("want one warning and no problem for a name of the betas, got %+v", checks)
	}
}

func TestCheckSaysWhatTheDriverIsCalledToday(t *testing.T) {
	job := jobOf(t, "", "", "vcpus = 0\n"+blankDisk)
	job.TaskGroups[0].Tasks[0].Driver = "nomad-driver-virt"
	want := []Check{{Group: "g", Task: "t", Problems: []string{
		`driver: "nomad-driver-virt" is what the first beta was called, and no node has it; write driver = "virt"`,
		"config.vcpus: is 0, and has to be between 1 and 255",
	}}}
	if diff := cmp.Diff(want, CheckJob(job, nil)); diff != "" {
		t.Errorf("the check (-want +got):\n%s", diff)
	}
}

func TestCheckLeavesOtherDriversAlone(t *testing.T) {
	job := jobOf(t, "", "", "nonsense = 1")
	job.TaskGroups[0].Tasks[0].Driver = "docker"
	if checks := CheckJob(job, nil); len(checks) > 0 {
		t.Errorf("a task of another driver was judged: %+v", checks)
	}
}
