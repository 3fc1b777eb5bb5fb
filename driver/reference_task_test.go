package driver

import (
	"strings"
	"testing"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// taskTables is what the documentation says of a task's configuration.
var taskTables = []referenceTable{
	{name: "task", rows: []attribute{
		{
			path: "disk", initial: "required", meaning: "The disks, at least one: the block [disk](#disk).",
			wrong: `hostname = "web"`,
		},
		{
			path: "network_interface", initial: "none",
			meaning: "The network interfaces, in the order that the guest sees: the block [network_interface](#network_interface). " +
				"Without one the VM has no network.",
			wrong: `network_interface {} ` + oneDisk,
		},
		{
			path: "cmds", initial: "none", example: `["systemctl start app"]`,
			meaning: "Commands that root runs in the guest once per start of the task. See [Commands](cloud-init.md#commands-and-interpolation).",
			never:   "it is for the guest's shell to judge",
		},
		{
			path: "user_data", initial: "none", example: `"local/user-data.yaml"`,
			meaning: "User data for cloud-init: the path of a file, or the document itself. See [cloud-init](cloud-init.md#cloud-init).",
			wrong:   `user_data = "# a comment is no form of user data" ` + oneDisk,
		},
		{
			path: "hostname", initial: "`nomad-<VM name>`", example: `"web-1"`,
			meaning: "The guest's name, a label of RFC 1123: 1 to 63 letters, digits and hyphens, none at the ends.",
			wrong:   `hostname = "web.example.org" ` + oneDisk,
		},
		{
			path: "timezone", initial: "the image's", example: `"Europe/Berlin"`,
			meaning: "A name of the time zone database.",
			wrong:   `timezone = "Berlin" ` + oneDisk,
		},
		{
			path: "default_user_password", initial: "none", example: `"correct horse"`,
			meaning: "Password of the image's default user. It does not expire at the first login. One line.",
			wrong:   `default_user_password = "one\ntwo" ` + oneDisk,
		},
		{
			path: "default_user_authorized_ssh_key", initial: "none", example: `"ssh-ed25519 AAAAC3… me@desk"`,
			meaning: "SSH public key of the image's default user. One line.",
			wrong:   `default_user_authorized_ssh_key = "ssh-ed25519 AAAA\nssh-ed25519 BBBB" ` + oneDisk,
		},
		{
			path: "mounts", initial: "[virtiofs, if the host has it, else 9p](cloud-init.md#the-allocations-directories)", example: `"9p"`,
			meaning: "`virtiofs` or `9p`: how the guest gets the allocation's directories. 9p takes a QEMU that is root, else the task is refused.",
			wrong:   `mounts = "nfs" ` + oneDisk,
		},
		{
			path: "vcpus", initial: "the reserved cores, or 1", example: `2`,
			meaning: "vCPUs, 1 to 255. With `resources.cores` there is one for each core, and another number is refused.",
			wrong:   `vcpus = 4 ` + oneDisk,
		},
	}},
	{name: "os", below: "os", rows: []attribute{
		{path: "os", initial: "as below", meaning: "The machine that is emulated.", never: noneRefused},
		{
			path: "os.arch", initial: "the host's", example: `"aarch64"`,
			meaning: "The guest's [architecture](#architectures) by libvirt's name: `x86_64`, `i686` or `aarch64`.",
			wrong:   `os { arch = "aarch64" } ` + oneDisk,
		},
		{
			path: "os.machine", initial: "`virt` on aarch64, else libvirt's default", example: `"q35"`,
			meaning: "QEMU's machine type.",
			wrong:   `os { machine = "microvm" } ` + oneDisk,
		},
	}},
	{name: "disk", below: "disk", rows: diskRows},
	{name: "network_interface", below: "network_interface", rows: []attribute{
		{
			path: "network_interface.mac", initial: "derived from the allocation, the task and the interface's place", example: `"52:54:00:12:34:56"`,
			meaning: "Hardware address, of [one VM at a time](networking.md#a-hardware-address-of-the-jobs-choice). An address that somebody " +
				"has reserved for it in a libvirt network is used, and stays reserved.",
			wrong: `network_interface { mac = "52-54" bridge { name = "virbr0" } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge", initial: "none", meaning: "The interface is on a bridge of this host.",
			wrong: `network_interface { bridge { name = "virbr0" } macvtap { device = "eth0" } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge.name", initial: "required", example: `"virbr0"`,
			meaning: "The bridge. libvirt's network `default` has `virbr0`.",
			wrong:   `network_interface { bridge { name = "virbr1" } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge.ports", initial: "none", example: `["http"]`,
			meaning: "Labels of the group's ports that are [published](networking.md#ports-and-addresses) for this VM. On a bridge " +
				"without a libvirt network they are published when the guest's address was [found](networking.md#addresses-that-are-found).",
			wrong: `network_interface { bridge { name = "virbr0" ports = ["https"] } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge.address", initial: "DHCP's", example: `"192.168.122.50/24"`,
			meaning: "IPv4 address that the guest takes, with the length of its network's prefix. On a bridge of a libvirt network " +
				"with DHCP it is reserved, and refused if it is another machine's; with `ports`, on any bridge. " +
				"[More](networking.md#an-address-of-the-jobs-choice)",
			wrong: `network_interface { bridge { name = "virbr0" address = "192.168.122.50" } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge.gateway", initial: "none", example: `"192.168.122.1"`,
			meaning: "With `address`: the default route.",
			wrong:   `network_interface { bridge { name = "virbr0" address = "192.168.122.50/24" gateway = "192.0.2.1" } } ` + oneDisk,
		},
		{
			path: "network_interface.bridge.dns", initial: "none", example: `["192.0.2.53"]`,
			meaning: "With `address`: DNS servers.",
			wrong:   `network_interface { bridge { name = "virbr0" address = "192.168.122.50/24" dns = ["dns.example.org"] } } ` + oneDisk,
		},
		{
			path: "network_interface.macvtap", initial: "none",
			meaning: "The interface is beside a network device of the host: the guest is a machine of its own on that network.",
			wrong:   `network_interface { macvtap {} } ` + oneDisk,
		},
		{
			path: "network_interface.macvtap.device", initial: "required", example: `"eth0"`,
			meaning: "The network device.",
			wrong:   `network_interface { macvtap { device = "eth9" } } ` + oneDisk,
		},
		{
			path: "network_interface.macvtap.mode", initial: "`bridge`", example: `"private"`,
			meaning: "`bridge`, `private`, `vepa` or `passthrough`, as " +
				"[libvirt describes them](https://libvirt.org/formatdomain.html#direct-attachment-to-physical-interface).",
			wrong: `network_interface { macvtap { device = "eth0" mode = "nat" } } ` + oneDisk,
		},
	}},
	{name: "old task names", rows: []attribute{
		{
			path: "image", initial: "none", example: `"debian-12.qcow2"`,
			meaning: "Now `image` in the block `source` of a block `disk`.",
			wrong:   `image = "a.img" ` + oneDisk,
		},
		{
			path: "primary_disk_size", initial: "the image's", example: `10240`,
			meaning: "MiB: now `size = \"10240MiB\"` in the disk.",
			wrong:   `primary_disk_size = 10240 ` + oneDisk,
		},
		{
			path: "use_thin_copy", initial: "`false`", example: `true`,
			meaning: "Now `chained = true` in the disk.",
			wrong:   `use_thin_copy = true ` + oneDisk,
		},
	}},
}

var diskRows = []attribute{
	{
		path: "disk.source", initial: "none", meaning: "What is on the disk at first. Without it the disk is empty.",
		wrong: `disk { source {} size = "1GiB" }`,
	},
	{
		path: "disk.source.image", initial: "none", example: `"debian-12.qcow2"`,
		meaning: "[Path](#paths-of-images-and-user-data) of an image file: raw, qcow2, VMDK, VDI, VHDX or VPC.",
		wrong:   `disk { source { image = "a.img" volume = "b" } }`,
	},
	{
		path: "disk.source.volume", initial: "none", example: `"golden.qcow2"`,
		meaning: "Name of a volume of the same pool. Either this or `image`.",
		wrong:   `disk { volume = "/dev/vdb" source { volume = "golden.qcow2" } }`,
	},
	{
		path: "disk.source.format", initial: "detected", example: `"qcow2"`,
		meaning: "`raw`, `qcow2`, `vmdk`, `vdi`, `vhdx` or `vpc`. A format that the source does not have is refused; `raw` takes any file as it is.",
		wrong:   `disk { source { image = "a.img" format = "vmdk" } }`,
	},
	{
		path: "disk.source.overwrite", initial: "`false`", example: `true`,
		meaning: "With `volume`: the image is written even if the device holds data, at the first start in each allocation.",
		wrong:   `disk { source { image = "a.img" overwrite = true } }`,
	},
	{
		path: "disk.size", initial: "the source's virtual size", example: `"15GiB"`,
		meaning: "Bytes, or a number and a unit: `20GB` (10⁹), `15GiB` (2³⁰), with or without a space. Required without a source. " +
			"Less than the source's virtual size, zero, and more than 2PiB are refused; a source of more than 8TiB needs it. Rounded up to 1KiB.",
		wrong: `disk { size = "2GiB" source { image = "a.img" } }`,
	},
	{
		path: "disk.chained", initial: "`false`", example: `true`,
		meaning: "The disk is a copy-on-write overlay of its source, rather than a copy. Needs a source. In a directory the disk is qcow2 and sparse.",
		wrong:   `disk { chained = true size = "1GiB" }`,
	},
	{
		path: "disk.primary", initial: "`true` of the only disk that can be", example: `true`,
		meaning: "The disk to boot from. With several disks exactly one says so. Never a CD-ROM.",
		wrong:   `disk { size = "1GiB" } disk { size = "2GiB" }`,
	},
	{
		path: "disk.pool", initial: "the default pool", example: `"fast"`,
		meaning: "A pool of the plugin's configuration.",
		wrong:   `disk { pool = "slow" size = "1GiB" }`,
	},
	{
		path: "disk.format", initial: "`qcow2`; in a Ceph pool `raw`", example: `"raw"`,
		meaning: "The format of the volume, whatever the source's is. `raw` with `chained` is refused in a directory, `qcow2` in a Ceph pool.",
		wrong:   `disk { chained = true format = "raw" source { image = "a.img" } }`,
	},
	{
		path: "disk.sparse", initial: "`true`; for raw in a directory `false`", example: `false`,
		meaning: "Whether space is taken as it is written, or at once. `false` is refused with `chained`, and in a Ceph pool.",
		wrong:   `disk { chained = true sparse = false source { image = "a.img" } }`,
	},
	{
		path: "disk.read_only", initial: "`false`", example: `true`,
		meaning: "The guest cannot write to the disk. A read-only primary disk boots read-only.",
		wrong:   oneDisk + `disk { read_only = true bus_type = "sata" size = "1GiB" } ` + `disk { primary = true size = "1GiB" }`,
	},
	{
		path: "disk.bus_type", initial: "`virtio`", example: `"scsi"`,
		meaning: "`virtio`, `scsi`, `sata`, `ide` or `usb`. A CD-ROM: `ide` or `sata`, what the machine type has, or else `scsi`, as on aarch64. A lun: `scsi`.",
		wrong:   `disk { bus_type = "nvme" size = "1GiB" }`,
	},
	{
		path: "disk.devname", initial: "the next free one of the bus", example: `"vdb"`,
		meaning: "`vda` to `vdzz`, `sda` to `sdzz`, `hda` to `hdd`. The primary disk is the first to choose. Two disks of one name are refused.",
		wrong:   `disk { devname = "sda" size = "1GiB" }`,
	},
	{
		path: "disk.kind", initial: "`disk`", example: `"cdrom"`,
		meaning: "`disk`, `cdrom` or `lun`.",
		wrong:   `disk { kind = "floppy" size = "1GiB" }`,
	},
	{
		path: "disk.driver", initial: "`qemu`", example: `"qemu"`,
		meaning: "libvirt's disk driver. There is no other.",
		wrong:   `disk { driver = "vhost" size = "1GiB" }`,
	},
	{
		path: "disk.keep", initial: "`0s`", example: `"24h"`,
		meaning: "How long the volume stays after its task [ended](storage.md#after-the-task).",
		wrong:   `disk { keep = "1d" size = "1GiB" }`,
	},
	{
		path: "disk.volume", initial: "none", example: `"/dev/vdb"`,
		meaning: "The `destination` of a `volume_mount` that is a block device, below `/dev/`: the disk is that " +
			"[Nomad volume](storage.md#nomad-volumes). `size`, `pool`, `sparse`, `chained`, `keep`, `source.volume` and a `format` other " +
			"than `raw` are refused beside it.",
		wrong: `disk { volume = "vdb" } disk { primary = true volume = "/dev/vdb" }`,
	},
}

// guestsOfTests is what guests can have on the host of newRequest.
var guestsOfTests = []hypervisor.GuestArch{
	{Guest: domxml.Guest{Arch: "x86_64", Machines: []string{"pc", "q35"}, Usual: []string{"pc", "q35"}}},
	{Guest: domxml.Guest{Arch: "i686", Machines: []string{"pc", "q35"}, Usual: []string{"pc", "q35"}}},
}

// taskRefusal is what a task of some configuration is told on the host of newRequest,
// where a block device is mounted if a disk names one.
func taskRefusal(t *testing.T, config string) []string {
	t.Helper()
	d, _ := newDriver(t)
	task, err := decodeTask(d, config)
	if err != nil {
		return []string{err.Error()}
	}
	var p problems
	guestOS(task.OS, guestsOfTests, &p)
	r := newRequest(t, config)
	if strings.Contains(config, "volume = \"/dev/") {
		mounting(mount{taskPath: "/dev/vdb", hostPath: "/dev/loop0", kind: mountsDevice, size: vm.GiB})(&r)
	}
	r.userData, _ = readUserData(task.UserData, searchFor(r.nomad, nil))
	_, wrong := plan(r)
	if strings.Contains(config, "format = \"vmdk\"") {
		wrong = append(wrong, notFound(t, d, task)...)
	}
	return append(p, wrong...)
}

// notFound is what is wrong with what a task names, in directories that hold a raw
// image a.img.
func notFound(t *testing.T, d *Driver, task TaskConfig) problems {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, dir, "a.img", strings.Repeat("x", 1024))
	writeFile(t, dir, "pool/web-5a6e215e-vda.qcow2", "another task's disk")
	config, store, cfg := searching(dir)
	f, p := d.find(t.Context(), config, store, task, cfg)
	f.close()
	for i := range p {
		p[i] = strings.NewReplacer(dir+"/pool", "/var/lib/virt/storage", dir+"/alloc-dir", "/var/lib/nomad/alloc/c20ee15a",
			dir, "/var/lib/virt/images").Replace(p[i])
	}
	return p
}
