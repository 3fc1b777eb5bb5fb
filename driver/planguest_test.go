package driver

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Buses of machine types, as libvirt tells them.
var (
	pc      = []string{"ide", "fdc", "scsi", "virtio", "usb", "sata"}
	q35     = []string{"fdc", "scsi", "virtio", "usb", "sata"}
	virt    = []string{"fdc", "scsi", "virtio", "usb", "sata"} // of ARM
	unknown []string
)

// devices is a mount of a block device at each destination.
func devices(destinations ...string) func(*request) {
	var mounts []mount
	for i, destination := range destinations {
		mounts = append(mounts, mount{
			taskPath: destination,
			hostPath: fmt.Sprintf("/dev/loop%d", i),
			kind:     mountsDevice,
			size:     10 * vm.GiB,
		})
	}
	return mounting(mounts...)
}

func TestBusAndNameOfADisk(t *testing.T) {
	const primary = `disk { primary = true devname = "vda" size = "1MiB" } `
	for _, test := range []struct {
		offered []string
		disk    string
		want    string // device, bus, kind
	}{
		{pc, `size = "1MiB"`, "vdb virtio disk"},
		{q35, `size = "1MiB"`, "vdb virtio disk"},
		{unknown, `size = "1MiB"`, "vdb virtio disk"},

		{pc, `kind = "cdrom" source { image = "a.iso" }`, "hda ide cdrom"},
		{q35, `kind = "cdrom" source { image = "a.iso" }`, "sda sata cdrom"},
		{unknown, `kind = "cdrom" source { image = "a.iso" }`, "sda scsi cdrom"},
		{pc, `kind = "cdrom" bus_type = "usb" source { volume = "a.iso" }`, "sda usb cdrom"},
		{pc, `kind = "cdrom" bus_type = "scsi" pool = "remote" source { volume = "a.iso" }`, "sda scsi cdrom"},

		{pc, `kind = "lun" volume = "/dev/sdb"`, "sdb scsi lun"},
		{q35, `kind = "lun" volume = "/dev/sdb" devname = "sdc"`, "sdc scsi lun"},
		{pc, `kind = "lun" bus_type = "scsi" volume = "/dev/sdb"`, "sdb scsi lun"},

		{pc, `bus_type = "virtio" size = "1MiB"`, "vdb virtio disk"},
		{pc, `bus_type = "scsi" size = "1MiB"`, "sda scsi disk"},
		{pc, `bus_type = "sata" size = "1MiB"`, "sda sata disk"},
		{pc, `bus_type = "ide" size = "1MiB"`, "hda ide disk"},
		{pc, `bus_type = "usb" size = "1MiB"`, "sda usb disk"},
		{unknown, `bus_type = "ide" size = "1MiB"`, "hda ide disk"},

		{pc, `devname = "vdq" size = "1MiB"`, "vdq virtio disk"},
		{pc, `devname = "vdzz" size = "1MiB"`, "vdzz virtio disk"},
		{pc, `bus_type = "ide" devname = "hdd" size = "1MiB"`, "hdd ide disk"},
		{pc, `bus_type = "sata" devname = "sdz" size = "1MiB"`, "sdz sata disk"},
		{pc, `bus_type = "usb" devname = "sdzz" size = "1MiB"`, "sdzz usb disk"},
		{pc, `bus_type = "sata" volume = "/dev/sdb"`, "sdb sata disk"},
		{pc, `volume = "/dev/vdz"`, "vdz virtio disk"},
	} {
		r := newRequest(t, primary+"disk { "+test.disk+" }")
		if volume := r.task.Disks[1].Volume; volume != "" {
			devices(volume)(&r)
		}
		r.facts.Buses = test.offered
		d := mustPlan(t, r).Disks[1]
		if got := fmt.Sprintf("%s %s %s", d.Device, d.Bus, d.Kind); got != test.want {
			t.Errorf("disk { %s } on a machine with %q is %s, want %s", test.disk, test.offered, got, test.want)
		}
		if want := d.Kind == vm.CDROM; d.ReadOnly != want {
			t.Errorf("disk { %s } is read-only: %t, want %t", test.disk, d.ReadOnly, want)
		}
	}
}

func TestBusesOfDisksOnARM(t *testing.T) {
	for disk, want := range map[string]string{
		`size = "1MiB"`: "vdb virtio",
		`kind = "cdrom" source { image = "a.iso" }`:                   "sda scsi",
		`kind = "cdrom" bus_type = "sata" source { image = "a.iso" }`: "sda sata",
	} {
		r := newRequest(t, `disk { primary = true devname = "vda" size = "1MiB" } disk { `+disk+" }")
		onARM(&r.facts)
		d := mustPlan(t, r).Disks[1]
		if got := d.Device + " " + d.Bus; got != want {
			t.Errorf("disk { %s } is %s, want %s", disk, got, want)
		}
	}
}

func TestArchitectureAndMachineOfATask(t *testing.T) {
	of := func(arch string, usual []string, more ...string) hypervisor.GuestArch {
		return hypervisor.GuestArch{Guest: domxml.Guest{Arch: arch, Machines: slices.Concat(usual, more), Usual: usual}}
	}
	pc := of("x86_64", []string{"pc", "q35"}, "pc-q35-7.2", "microvm")
	arm := of("aarch64", []string{"virt"}, "virt-7.2", "raspi3b")
	both, onlyPC := []hypervisor.GuestArch{pc, arm}, []hypervisor.GuestArch{pc}
	for _, test := range []struct {
		name    string
		asked   *OS
		guests  []hypervisor.GuestArch
		want    OS
		problem string
	}{
		{name: "nothing", guests: both, want: OS{"x86_64", ""}},
		{name: "an empty block", asked: &OS{}, guests: both, want: OS{"x86_64", ""}},
		{name: "the host's own", asked: &OS{"x86_64", "q35"}, guests: both, want: OS{"x86_64", "q35"}},
		{name: "a machine type alone", asked: &OS{"", "pc-q35-7.2"}, guests: both, want: OS{"x86_64", "pc-q35-7.2"}},
		{name: "another architecture alone", asked: &OS{"aarch64", ""}, guests: both, want: OS{"aarch64", ""}},
		{name: "another architecture", asked: &OS{"aarch64", "virt"}, guests: both, want: OS{"aarch64", "virt"}},
		{name: "on an ARM", asked: &OS{"", "virt-7.2"}, guests: []hypervisor.GuestArch{arm, pc}, want: OS{"aarch64", "virt-7.2"}},
		{
			name: "one that the host does not have", asked: &OS{"riscv64", "virt"}, guests: both, want: OS{"x86_64", ""},
			problem: `config.os.arch: "riscv64" is none of the architectures that guests can have on this host: x86_64, aarch64`,
		},
		{
			name: "one that it could have", asked: &OS{"aarch64", "virt"}, guests: onlyPC, want: OS{"x86_64", ""},
			problem: `config.os.arch: "aarch64" is none of the architectures that guests can have on this host: x86_64; ` +
				"this one takes QEMU and UEFI firmware for it, in Debian the packages qemu-system-arm and qemu-efi-aarch64",
		},
		{
			name: "a machine type that there is not", asked: &OS{"", "q36"}, guests: both, want: OS{"x86_64", ""},
			problem: `config.os.machine: "q36" is no machine type of x86_64 guests on this host; there are, versions left out: pc, q35`,
		},
		{
			name: "the machine type of another architecture", asked: &OS{"aarch64", "q35"}, guests: both, want: OS{"aarch64", ""},
			problem: `config.os.machine: "q35" is no machine type of aarch64 guests on this host; there are, versions left out: virt`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var p problems
			arch, machine := guestOS(test.asked, test.guests, &p)
			if got := (OS{arch, machine}); got != test.want {
				t.Errorf("the guest is %+v, want %+v", got, test.want)
			}
			if got := strings.Join(p, "\n"); got != test.problem {
				t.Errorf("the problem is\n%s\nwant\n%s", got, test.problem)
			}
		})
	}
}

func TestPlanRefusesBusesAndKinds(t *testing.T) {
	const source = ` source { image = "a.img" } }`
	lun := devices("/dev/sdb")
	on := func(buses []string) func(*request) { return func(r *request) { r.facts.Buses = buses } }
	refused := func(config, want string, change func(*request)) refusal {
		return refusal{name: config, config: config, change: change, want: []string{want}}
	}
	testRefusals(t, []refusal{
		refused(`disk { bus_type = "nvme"`+source, `config.disk[0].bus_type: "nvme" is none of virtio, scsi, sata, ide, usb`, nil),
		refused(`disk { bus_type = "fdc"`+source, `config.disk[0].bus_type: "fdc" is none of virtio, scsi, sata, ide, usb`, nil),
		refused(`disk { bus_type = "ide"`+source,
			"config.disk[0].bus_type: the machine type has no ide; it has: virtio, scsi, sata, usb", on(q35)),
		refused(`disk { bus_type = "sata"`+source,
			"config.disk[0].bus_type: the machine type has no sata; it has: virtio, scsi, usb", on([]string{"fdc", "scsi", "virtio", "usb"})),
		refused(`disk { bus_type = "ide"`+source,
			"config.disk[0].bus_type: the machine type has no ide; it has: virtio, scsi, sata, usb", on(virt)),

		refused(`disk { kind = "floppy"`+source, `config.disk[0].kind: "floppy" is none of disk, cdrom, lun`, nil),
		refused(`disk { size = "1MiB" primary = true } disk { kind = "cdrom" bus_type = "virtio"`+source,
			"config.disk[1].bus_type: there are no virtio CD-ROMs; leave it out", nil),
		refused(`disk { kind = "lun"`+source, "config.disk[0].kind: a lun is a block device that is given SCSI commands: "+
			"it needs a Nomad volume, which volume names", nil),
		refused(`disk { kind = "lun" size = "1GiB" }`, "config.disk[0].kind: a lun is a block device that is given SCSI commands: "+
			"it needs a Nomad volume, which volume names", nil),
		refused(`disk { kind = "lun" bus_type = "virtio" devname = "vda" volume = "/dev/sdb" }`,
			"config.disk[0].bus_type: a lun is given SCSI commands, so it has to be on bus scsi; leave it out", lun),
		refused(`disk { kind = "lun" bus_type = "sata" volume = "/dev/sdb" }`,
			"config.disk[0].bus_type: a lun is given SCSI commands, so it has to be on bus scsi; leave it out", lun),

		{
			name:   "a lun that is none, twice",
			config: `disk { kind = "lun" bus_type = "sata"` + source,
			want: []string{
				"config.disk[0].bus_type: a lun is given SCSI commands, so it has to be on bus scsi; leave it out",
				"config.disk[0].kind: a lun is a block device that is given SCSI commands: it needs a Nomad volume, which volume names",
			},
		},

		refused(`disk { read_only = true bus_type = "sata"`+source,
			"config.disk[0].bus_type: QEMU has no read-only disks on bus sata; use virtio, scsi or usb", nil),
		refused(`disk { read_only = true bus_type = "ide"`+source,
			"config.disk[0].bus_type: QEMU has no read-only disks on bus ide; use virtio, scsi or usb", nil),
		{name: "read-only, virtio", config: `disk { read_only = true` + source},
		{name: "read-only, scsi", config: `disk { read_only = true bus_type = "scsi"` + source},
		{name: "read-only, usb", config: `disk { read_only = true bus_type = "usb"` + source},
		{name: "a read-only lun", config: `disk { read_only = true kind = "lun" volume = "/dev/sdb" }`, change: lun},
		{name: "a CD-ROM is read-only on every bus", config: `disk { size = "1MiB" primary = true }
			disk { read_only = true kind = "cdrom" bus_type = "ide"` + source + `
			disk { read_only = true kind = "cdrom" bus_type = "sata"` + source},
	})
}

// many is a number of empty disks on a bus, the first of them primary.
func many(bus string, n int) string {
	disk := fmt.Sprintf(`disk { size = "1MiB" bus_type = %q } `, bus)
	return `disk { primary = true size = "1MiB" bus_type = "` + bus + `" } ` + strings.Repeat(disk, n-1)
}

func TestAsManyDisksAsABusHas(t *testing.T) {
	for _, test := range []struct {
		bus       string
		fit, asks int
		last      string
		want      []string
	}{
		{"ide", 4, 5, "hdd", []string{"config.disk[4].bus_type: no more than 4 disks fit on bus ide; name another"}},
		{"ide", 4, 9, "hdd", []string{"config.disk[4].bus_type: no more than 4 disks fit on bus ide; name another"}},
		{"usb", 15, 16, "sdo", []string{"config.disk[15].bus_type: no more than 15 disks fit on bus usb; name another"}},
		{"virtio", 100, 0, "vdcv", nil},
		{"scsi", 100, 0, "sdcv", nil},
		{"sata", 100, 0, "sdcv", nil},
	} {
		disks := mustPlan(t, newRequest(t, many(test.bus, test.fit))).Disks
		if got := disks[len(disks)-1].Device; got != test.last {
			t.Errorf("the last of %d disks on bus %s is %s, want %s", test.fit, test.bus, got, test.last)
		}
		if test.asks == 0 {
			continue
		}
		_, p := plan(newRequest(t, many(test.bus, test.asks)))
		if diff := cmp.Diff(problems(test.want), p); diff != "" {
			t.Errorf("the problems of %d disks on bus %s (-want +got):\n%s", test.asks, test.bus, diff)
		}
	}
}

func TestDeviceNamesGoOnAfterVdz(t *testing.T) {
	disks := mustPlan(t, newRequest(t, many("virtio", 28))).Disks
	if len(disks) != 28 {
		t.Fatalf("28 disks that are alike are %d, want each to stay", len(disks))
	}
	for i, want := range map[int]string{0: "vda", 1: "vdb", 25: "vdz", 26: "vdaa", 27: "vdab"} {
		if got := disks[i].Device; got != want {
			t.Errorf("disk %d is %s, want %s", i, got, want)
		}
	}
}

func TestDevicesHaveNamesOfTheirOwn(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		want   []string // in the order of the VM
	}{
		"the primary disk is first, the others keep their order": {
			`disk { size = "1MiB" } disk { size = "2MiB" } disk { primary = true size = "3MiB" }`,
			[]string{"vda 3MiB", "vdb 1MiB", "vdc 2MiB"},
		},
		"a disk that has a name keeps it, and no other gets it": {
			`disk { size = "1MiB" devname = "vda" }
			 disk { size = "2MiB" primary = true }
			 disk { size = "3MiB" devname = "vdz" }
			 disk { size = "4MiB" }`,
			[]string{"vdb 2MiB", "vda 1MiB", "vdz 3MiB", "vdc 4MiB"},
		},
		"buses that share their names": {
			`disk { size = "1MiB" bus_type = "usb" }
			 disk { size = "2MiB" bus_type = "scsi" primary = true }
			 disk { size = "3MiB" bus_type = "sata" devname = "sdb" }
			 disk { size = "4MiB" bus_type = "ide" }
			 disk { size = "5MiB" }
			 disk { size = "6MiB" bus_type = "sata" }`,
			[]string{"sda 2MiB", "sdc 1MiB", "sdb 3MiB", "hda 4MiB", "vda 5MiB", "sdd 6MiB"},
		},
		"a Nomad volume is called what its mount is": {
			`disk { size = "1MiB" primary = true }
			 disk { volume = "/dev/vdb" }
			 disk { size = "2MiB" }
			 disk { volume = "/dev/data/vdd" devname = "vdd" }
			 disk { size = "3MiB" }`,
			[]string{"vda 1MiB", "vdb 10GiB", "vdc 2MiB", "vdd 10GiB", "vde 3MiB"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRequest(t, test.config)
			if strings.Contains(test.config, "volume") {
				devices("/dev/vdb", "/dev/data/vdd")(&r)
			}
			var got []string
			for _, d := range mustPlan(t, r).Disks {
				got = append(got, fmt.Sprintf("%s %s", d.Device, d.Volume.Size))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the disks (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlanRefusesDeviceNames(t *testing.T) {
	forms := map[string]string{"virtio": "vda, vdb", "scsi": "sda, sdb", "sata": "sda, sdb", "ide": "hda, hdb", "usb": "sda, sdb"}
	for bus, names := range map[string][]string{
		"virtio": {"sda", "hda", "vd", "vda1", "vdaaa", "VDA", "../vda", "vda\n", "a"},
		"scsi":   {"vda", "hda", "sd", "sda1", "sr0"},
		"sata":   {"vda"},
		"ide":    {"sda", "hd"},
		"usb":    {"vda", "ub0"},
	} {
		for _, name := range names {
			r := newRequest(t, fmt.Sprintf(`disk { size = "1MiB" bus_type = %q }`, bus))
			r.task.Disks[0].Devname = name
			_, p := plan(r)
			want := problems{fmt.Sprintf("config.disk[0].devname: %q is no name of a disk on bus %s; "+
				"write %s and so on, or name another bus_type", name, bus, forms[bus])}
			if diff := cmp.Diff(want, p); diff != "" {
				t.Errorf("the problems of devname = %q on bus %s (-want +got):\n%s", name, bus, diff)
			}
		}
	}
	for _, name := range []string{"hde", "hdz", "hdaa", "hddd"} {
		_, p := plan(newRequest(t, fmt.Sprintf(`disk { size = "1MiB" bus_type = "ide" devname = %q }`, name)))
		want := problems{fmt.Sprintf("config.disk[0].devname: %q is no name of a disk on bus ide, they are: hda, hdb, hdc, hdd", name)}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("the problems of devname = %q (-want +got):\n%s", name, diff)
		}
	}
	testRefusals(t, []refusal{
		{
			name:   "a name twice",
			config: `disk { size = "1MiB" primary = true devname = "vdb" } disk { size = "1MiB" devname = "vdb" }`,
			want:   []string{"config.disk[1].devname: disk[0] is vdb already; name another, or leave devname out"},
		},
		{
			name: "a name twice, on two buses",
			config: `disk { size = "1MiB" primary = true bus_type = "usb" devname = "sdb" }
				disk { size = "1MiB" bus_type = "sata" devname = "sdb" }`,
			want: []string{"config.disk[1].devname: disk[0] is sdb already; name another, or leave devname out"},
		},
		{
			name:   "a name twice, of which a Nomad volume has one",
			config: `disk { size = "1MiB" primary = true devname = "vdb" } disk { volume = "/dev/vdb" }`,
			change: devices("/dev/vdb"),
			want:   []string{"config.disk[1].volume: disk[0] is vdb already; name another, or leave devname out"},
		},
		{
			name:   "a Nomad volume whose mount is no name",
			config: `disk { volume = "/dev/data" }`,
			change: devices("/dev/data"),
			want: []string{`config.disk[0].volume: "data" is no name of a disk on bus virtio; ` +
				"set devname to one of vda, vdb and so on, or name another bus_type"},
		},
		{
			name:   "a Nomad volume whose mount is the name of another bus's disk",
			config: `disk { volume = "/dev/sdb" }`,
			change: devices("/dev/sdb"),
			want: []string{`config.disk[0].volume: "sdb" is no name of a disk on bus virtio; ` +
				"set devname to one of vda, vdb and so on, or name another bus_type"},
		},
	})
}

func TestPrimaryDisk(t *testing.T) {
	const cdrom = `disk { kind = "cdrom" source { image = "a.iso" } } `
	for config, want := range map[string]string{
		`disk { size = "2MiB" }`:                                             "2MiB",
		cdrom + `disk { size = "2MiB" }`:                                     "2MiB",
		cdrom + `disk { size = "2MiB" } ` + cdrom:                            "2MiB",
		`disk { size = "1MiB" } disk { size = "2MiB" primary = true }`:       "2MiB",
		cdrom + `disk { size = "2MiB" primary = true }`:                      "2MiB",
		`disk { size = "1MiB" } disk { volume = "/dev/vdb" primary = true }`: "10GiB",
		cdrom + `disk { kind = "lun" volume = "/dev/vdb" devname = "sda" }`:  "10GiB",
	} {
		r := newRequest(t, config)
		if strings.Contains(config, "volume") {
			devices("/dev/vdb")(&r)
		}
		disks := mustPlan(t, r).Disks
		if got := disks[0].Volume.Size.String(); got != want || len(disks) != len(r.task.Disks) {
			t.Errorf("%s: the first of %d disks is of %s, want that of %s", config, len(disks), got, want)
		}
		if at := slices.IndexFunc(disks, func(d vm.Disk) bool { return d.Kind == vm.CDROM }); at == 0 {
			t.Errorf("%s: the VM boots from a CD-ROM", config)
		}
	}
	testRefusals(t, []refusal{
		{name: "none of several", config: `disk { size = 1 } disk { size = 1 } ` + cdrom, want: []string{
			"config.disk: none of the 3 disks is primary; set primary = true in the one to boot from",
		}},
		{
			name:   "two",
			config: `disk { size = 1 } disk { size = 1 primary = true } disk { size = 1 primary = true }`,
			want:   []string{"config.disk[2].primary: disk[1] is the primary disk already, there is only one"},
		},
		{
			name:   "a CD-ROM",
			config: `disk { size = 1 } disk { kind = "cdrom" primary = true source { image = "a.iso" } }`,
			want:   []string{"config.disk[1].primary: a CD-ROM cannot be the primary disk; a VM boots from a disk of its own"},
		},
		{
			name:   "CD-ROMs alone",
			config: cdrom + cdrom,
			want:   []string{"config.disk: there are CD-ROMs alone; a VM needs a disk to boot from"},
		},
		{
			name:   "a CD-ROM alone, that says it",
			config: `disk { kind = "cdrom" primary = true source { image = "a.iso" } }`,
			want: []string{
				"config.disk[0].primary: a CD-ROM cannot be the primary disk; a VM boots from a disk of its own",
				"config.disk: there are CD-ROMs alone; a VM needs a disk to boot from",
			},
		},
	})
}
