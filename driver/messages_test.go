package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/cloudinit"
	"nomad-driver-virt/doctest"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

const messagesPage = "../docs/messages.md"

func TestMessagesOfThePluginsConfiguration(t *testing.T) {
	all := refusalsOf(t, references()[0])
	for _, config := range []string{
		`storage_pools { default = "local" }`,
		`storage_pools { directory "local" {} }`,
		`storage_pools { ceph "remote" { pool = "nomad-pool" authentication { username = "nomad" secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } } }`,
		`provider "libvirt" { uri = "system" }`,
		`provider "libvirt" { uri = "qemu:///%" }`,
		`remove_orphans_after = -1`,
	} {
		for _, said := range pluginRefusal(t, config) {
			all = append(all, doctest.Message{Said: said})
		}
	}
	d, _ := newDriver(t)
	err := setConfig(d, `acceleration = "hvf" storage_pools { directory "local" { path = "storage" } }`)
	all = append(all, doctest.Message{Said: err.Error(), Why: "More than one problem, as the agent prints them."})
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of the plugin's configuration", Text: doctest.Messages(once(all))})
}

// refusalsOf collects what a reference's wrong values are told.
func refusalsOf(t *testing.T, r reference) (all []doctest.Message) {
	t.Helper()
	for _, table := range r.tables {
		for _, a := range table.rows {
			if a.wrong != "" {
				for _, said := range r.refusal(t, a.wrong) {
					all = append(all, doctest.Message{Said: said})
				}
			}
		}
	}
	return all
}

// once leaves out what is said already.
func once(all []doctest.Message) (some []doctest.Message) {
	said := make(map[string]bool)
	for _, m := range all {
		if !said[m.Said] {
			said[m.Said] = true
			some = append(some, m)
		}
	}
	return some
}

// taskMessage is a task's configuration that is refused.
type taskMessage struct {
	config string
	change func(*request) // what else is so
	why    string
}

var taskMessages = []taskMessage{
	{config: `disk { kind = "cdrom" primary = true source { image = "a.img" } } disk { size = "1GiB" }`},
	{config: `disk { primary = true size = "1GiB" } disk { primary = true size = "2GiB" }`},
	{config: `disk { kind = "cdrom" source { image = "a.img" } }`},
	{config: oneDisk + `disk { kind = "cdrom" }`},
	{config: oneDisk + `disk { kind = "cdrom" bus_type = "virtio" source { image = "b.img" } }`},
	{config: `disk { kind = "lun" size = "1GiB" }`},
	{config: `disk { kind = "lun" bus_type = "virtio" volume = "/dev/vdb" }`, change: withDevice(false)},
	{config: `disk { size = "big" }`},
	{config: `disk { size = "0" }`},
	{config: `disk { size = "4PiB" }`},
	{config: `disk {}`},
	{config: oneDisk, change: ofImageSize(9 * tib), why: "The image says that it is that large; so that nobody fills a host with a header of a few bytes."},
	{config: oneDisk, change: ofImageSize(4096 * tib)},
	{config: `disk { pool = "remote" format = "qcow2" size = "1GiB" }`},
	{config: `disk { pool = "remote" sparse = false size = "1GiB" }`},
	{config: `disk { source { image = "a.ova" format = "ova" } }`, why: "An OVA is an archive: `tar -xf a.ova` takes the disk's VMDK out of it."},
	{config: `disk { source { volume = "images/golden.qcow2" } }`, why: "A volume has a name, and no path; the pool is the disk's."},
	{config: `disk { pool = "remote" source { volume = "golden" format = "qcow2" } }`},
	{config: `disk { chained = true source { volume = "old.vmdk" } }`, change: ofFormat("vmdk")},
	{config: `disk { devname = "vda" size = "1GiB" primary = true } disk { devname = "vda" size = "1GiB" }`},
	{config: `disk { bus_type = "ide" devname = "hde" size = "1GiB" }`},
	{config: oneDisk + strings.Repeat(`disk { bus_type = "ide" size = "1GiB" }`, 5)},
	{config: `disk { volume = "/dev/vdb" size = "1GiB" }`, change: withDevice(false),
		why: "So are `pool`, `sparse`, `chained`, `keep` and `source.volume`."},
	{config: `disk { volume = "/dev/vdb" format = "qcow2" }`, change: withDevice(false)},
	{config: `disk { volume = "/dev/vdb" source {} }`, change: withDevice(false)},
	{config: `disk { volume = "/dev/vdb" } disk { volume = "/dev/vdb" devname = "vdc" primary = true }`, change: withDevice(false)},
	{config: `disk { volume = "/dev/vdb" source { image = "a.img" } }`, change: withDevice(true)},
	{config: `disk { volume = "/dev/vdb" source { image = "a.img" } }`, change: withDevice(false),
		why: "The size of the volume is what its plugin has made."},
	{config: `disk { volume = "/dev/vdb" }`},
	{config: `disk { volume = "/srv" }`, change: mounting(mount{taskPath: "/srv", kind: mountsDevice, size: vm.GiB})},
	{config: `disk { volume = "/dev/vdb" }`, change: mounting(mount{taskPath: "/dev/vdb", kind: mountsDirectory})},
	{config: oneDisk, change: withDevice(false)},
	{config: oneDisk, change: mounting(mount{taskPath: "/srv", hostPath: "/run/socket", kind: mountsNeither})},
	{config: oneDisk, change: mounting(mount{taskPath: "srv"})},
	{config: oneDisk, change: mounting(mount{taskPath: "/"})},
	{config: oneDisk, change: mounting(mount{taskPath: "/local/data"})},
	{config: oneDisk, change: mounting(mount{taskPath: "/srv"}, mount{taskPath: "/srv"})},
	{config: `network_interface { bridge {} } ` + oneDisk},
	{config: oneDisk, change: func(r *request) { r.nomad.Resources.Ports = nomadTask().Resources.Ports }},
	{config: `network_interface { macvtap { device = "eth0" } } ` + oneDisk, change: func(r *request) { r.config.NWFilter = "clean-traffic" }},
	{config: `network_interface { macvtap { device = "eth0" } } ` + oneDisk, change: withPortOf("eth0", "br-lan"),
		why: "The guest is on the same network there. libvirt would refuse it when the disks are made."},
	{config: `network_interface { bridge { name = "virbr0" ports = ["http", "http"] } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" ports = ["http"] } }
		network_interface { bridge { name = "virbr7" ports = ["http"] } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" ports = ["http6"] } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" ports = ["http"] } } ` + oneDisk,
		change: func(r *request) { r.nomad.Resources.Ports = nil }},
	{config: `network_interface { bridge { name = "virbr0" address = "192.0.2.5/24" } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" address = "192.168.122.1/24" } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" gateway = "192.168.122.1" } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" address = "2001:db8::5/64" } } ` + oneDisk},
	{config: `network_interface { bridge { name = "virbr0" address = "127.0.0.1/8" } } ` + oneDisk},
	{config: `network_interface { mac = "52:54:00:12:34:56" bridge { name = "virbr0" } }
		network_interface { mac = "52:54:00:12:34:56" bridge { name = "virbr7" } } ` + oneDisk},
	{config: withMAC, change: withInterfaceOf("web", vm.Owner{}, false),
		why: "`virsh domiflist VM` shows the interfaces of a VM. See [A hardware address of the job's choice](networking.md#a-hardware-address-of-the-jobs-choice)."},
	{config: `network_interface { bridge { name = "virbr0" } } ` + oneDisk,
		change: func(r *request) { r.links, r.facts.Networks = nil, nil }},
	{config: `vcpus = 256 ` + oneDisk, change: func(r *request) { r.nomad.Resources.LinuxResources.CpusetCpus = "" }},
	{config: `mounts = "virtiofs" ` + oneDisk},
	{config: oneDisk, change: func(r *request) { r.config.Acceleration = accelerationKVM },
		why: "`/dev/kvm` is missing, or is not readable for QEMU: is virtualization on in the firmware, is the module `kvm_intel` or `kvm_amd` loaded?"},
	{config: oneDisk, change: func(r *request) { r.config.Acceleration = accelerationKVM; onARM(&r.facts) }},
	{config: oneDisk, change: func(r *request) { r.nomad.Resources.NomadResources = nil }, why: "Nomad always sends it."},
	{config: oneDisk, change: func(r *request) { r.nomad.Resources.LinuxResources.CpusetCpus = "x" }, why: "Nomad and the driver do not fit together."},
	{config: oneDisk, change: func(r *request) { r.nomad.Devices = []*drivers.DeviceConfig{{}} }, why: "Take the `device` block out of `resources`."},
}

// withDevice has the task mount a block device.
func withDevice(readOnly bool) func(*request) {
	return mounting(mount{taskPath: "/dev/vdb", hostPath: "/dev/loop0", kind: mountsDevice, size: vm.GiB, readOnly: readOnly})
}

// ofImageSize has all images be of a size, and ofFormat of a format.
func ofImageSize(size vm.Bytes) func(*request) {
	return func(r *request) { r.sources[0].image.Size = size }
}

func ofFormat(format string) func(*request) {
	return func(r *request) { r.sources[0].image.Format, r.sources[0].volume.Format = format, format }
}

func TestMessagesOfTheTasksConfiguration(t *testing.T) {
	all := refusalsOf(t, references()[1])
	for _, m := range taskMessages {
		r := newRequest(t, m.config)
		if m.change != nil {
			m.change(&r)
		}
		_, p := plan(r)
		if len(p) == 0 {
			t.Errorf("this is not refused:\n%s", m.config)
		}
		for _, said := range p {
			all = append(all, doctest.Message{Said: said, Why: m.why})
		}
	}
	var p problems
	host := &refusingHost{}
	if _, err := factsFor(t.Context(), host, TaskConfig{OS: &OS{Machine: "q35"}}, &p); err != nil {
		t.Fatal(err)
	}
	for _, said := range p {
		all = append(all, doctest.Message{Said: said, Why: "The rest is what libvirt says."})
	}
	d, _ := newDriver(t)
	_, err := decodeTask(d, `image = "a.img" primary_disk_size = 1.5`)
	all = append(all, doctest.Message{Said: err.Error(), Why: "A number where a whole number has to be."})
	_, err = decodeTask(d, `disk { bustype = "virtio" }`)
	all = append(all, doctest.Message{Said: err.Error(), Why: "This one is Nomad's own, and about a name that is misspelt."})
	two := problems{"config.hostname: …", "config.timezone: …"}
	all = append(all, doctest.Message{Said: two.err("the task's configuration").Error(), Why: "More than one problem."})
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of the task's configuration", Text: doctest.Messages(once(all))})
}

// refusingHost has machines of every name, until it is asked for one.
type refusingHost struct{ libvirtHost }

func (*refusingHost) Guests(context.Context) ([]hypervisor.GuestArch, error) {
	return guestsOfTests, nil
}

func (*refusingHost) Facts(_ context.Context, arch, machine string) (hypervisor.Facts, error) {
	if machine != "" {
		return hypervisor.Facts{}, hypervisor.ErrRefused
	}
	return hypervisor.Facts{Arch: arch}, nil
}

func TestMessagesOfWhatATaskNames(t *testing.T) {
	d, _ := newDriver(t)
	var all []doctest.Message
	for _, m := range []struct {
		task TaskConfig
		why  string
	}{
		{TaskConfig{Disks: []Disk{{Source: &DiskSource{Image: "debian.qcow2"}}}},
			"Is the file on this client, and its directory in `image_paths`? An `artifact` is below `local/`."},
		{TaskConfig{Disks: []Disk{{Source: &DiskSource{Image: "/etc/hostname"}}}},
			"Move the file into one of these directories, or add its directory to `image_paths` (`user_data_paths` for user data)."},
		{TaskConfig{Disks: []Disk{{Source: &DiskSource{Image: "."}}}}, "The path is that of a directory, or of a device."},
		{TaskConfig{UserData: "user-data.yaml"}, "A document in the job file has to begin with `#`, or have several lines; this was taken for a path."},
	} {
		for _, said := range notFound(t, d, m.task) {
			all = append(all, doctest.Message{Said: said, Why: m.why})
		}
	}
	gone := lookAtMounts([]*drivers.MountConfig{{TaskPath: "/srv", HostPath: "/srv/of-another-host"}})
	all = append(all, doctest.Message{Said: gone[0].err.Error(), Why: "The volume was removed behind Nomad's back."})
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of what a task names", Text: doctest.Messages(all)})
}

func TestMessagesOfUserData(t *testing.T) {
	var all []doctest.Message
	for _, data := range []string{
		"password: hush",
		"#!/bin/sh\n\xff",
		"#cloud-config\na: b\npassword: [hush\n",
		"#cloud-config\n- a list\n",
		"#cloud-config\na: 1\n---\nb: 2\n",
		"#cloud-config\nruncmd: echo\n",
		"\x1f\x8b\x08 cut off",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed\n\nhush",
	} {
		err := cloudinit.CheckUserData([]byte(data))
		if err == nil {
			t.Fatalf("this is taken: %q", data)
		}
		all = append(all, doctest.Message{Said: err.Error()})
	}
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of user data", Text: doctest.Messages(all)})
}

func TestMessagesOfStarts(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	var all []doctest.Message
	add := func(err error, why string) {
		t.Helper()
		if err == nil {
			t.Fatal("there is no error")
		}
		all = append(all, doctest.Message{Said: strings.ReplaceAll(afterRPC(err), c.pool, "/var/lib/virt/storage"), Why: why})
	}
	c.stopping.Store(true)
	_, _, err := p.StartTask(cfg)
	add(err, "systemd says that the host shuts down. Nomad tries again, and on other hosts.")
	c.stopping.Store(false)

	c.ports.fail(errors.New("…"))
	_, _, err = p.StartTask(cfg)
	add(err, "What follows is the cause; see the other tables. Other things that a start does: define the VM, choose an address, make disks, "+
		"make the cloud-init seed, share the allocation's directories, make a place for its console's log, start the VM, "+
		"give it its share of the CPUs, be sure of its address, let the guest run.")
	c.ports.fail(nil)

	p.start(t, cfg)
	_, _, err = p.StartTask(cfg)
	add(err, "Nomad and the driver disagree on what runs. Restart the Nomad agent; VMs go on.")
	add(p.DestroyTask(cfg.ID, false), "Nomad's own order was not kept. The task is to be stopped first.")
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of starts", Text: doctest.Messages(all)})
}

// afterRPC is what an error says that has come over gRPC.
func afterRPC(err error) string {
	_, said, _ := strings.Cut(err.Error(), " desc = ")
	return said
}

func TestMessagesOfEvents(t *testing.T) {
	all := []doctest.Message{
		{Said: "Started VM virt-task-5a6e215e" + executedBy(vm.TCG) + at(&drivers.DriverNetwork{IP: "192.168.122.54"}),
			Why: "The VM runs, and its guest boots. *Without KVM* is said where there is none, or `acceleration = \"tcg\"`."},
	}
	for _, m := range []struct {
		trouble trouble
		room    room
		why     string
	}{
		{trouble{disk: "vda", full: true, volume: volumeOf("local")}, free(vm.MiB), "Make room in the directory: remove images, kept disks (`virsh vol-list local`), or grow the file system."},
		{trouble{disk: "vda", full: true, volume: volumeOf("local")}, free(tib), "`quota` or the file system's own limits have more to say than `df`."},
		{trouble{disk: "vda", full: true, volume: vm.Volume{Pool: "ceph"}}, nil, "Remove volumes, or add OSDs."},
		{trouble{disk: "/dev/vg/data", full: true}, nil, "A thin volume of LVM whose pool is full, for one."},
		{trouble{disk: "vda", volume: vm.Volume{Pool: "ceph"}}, nil, ""},
		{trouble{disk: "vda", volume: volumeOf("local")}, nil, "The host's disk has an error, or its file system was taken away."},
	} {
		all = append(all, doctest.Message{Said: m.trouble.event("virt-task-5a6e215e", m.room), Why: m.why},
			doctest.Message{Said: m.trouble.over(m.room), Why: "It was paused because of a disk, and that is over."})
	}
	for _, by := range []hypervisor.Way{hypervisor.ByAgent, hypervisor.ByPowerButton} {
		stopped := &task{asked: by}
		all = append(all, doctest.Message{Said: stopped.shutDownAfter(2300 * time.Millisecond), Why: "The task was stopped, and the guest had time to end its work."})
	}
	ended := &task{exit: vm.Exit{Err: errors.New("…")}}
	halted := &task{guest: hypervisor.GuestHalted}
	all = append(all,
		doctest.Message{Said: ended.shutDownAfter(time.Second), Why: "For the cause see below."},
		doctest.Message{Said: (&task{}).lateness("5s"), Why: "5 seconds are Nomad's default, and short for an operating system. " +
			"Set the task's `kill_timeout`, and the client's `max_kill_timeout`. A guest that never shuts down has neither ACPI nor the QEMU agent."},
		doctest.Message{Said: halted.lateness("1m0s"), Why: "Make room in its pool before the task is stopped."},
	)
	all = append(all, toldAnywhere(t)...)
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of events", Text: doctest.Messages(once(all))})
}

// toldBySource are events by how their formats begin in the source, with what they
// are filled with here.
var toldBySource = map[string]struct {
	args []any
	why  string
}{
	"Copied image ":     {[]any{"/var/lib/virt/images/debian-12.qcow2", "vda", "1.7s"}, "The disk is made."},
	"Imported image ":   {[]any{"/var/lib/virt/images/debian-12.qcow2", "base-0123456789abcdef.qcow2", "local", "1.7s"}, "The base is made, which other disks share."},
	"%s: %.0f%% done":   {[]any{"Copying image /var/lib/virt/images/debian-12.qcow2", 50.0, 90 * time.Second}, "It takes longer than five seconds."},
	"Disk %s was left ": {[]any{"vda", "/dev/vg/data", "/var/lib/virt/images/debian-12.qcow2"}, "This is what a Nomad volume is for: its data stays."},
	"Wrote image ":      {[]any{"/var/lib/virt/images/debian-12.qcow2", "vda", "/dev/vg/data", "1.7s"}, "The Nomad volume was blank, or `overwrite` is set."},
	"In config, ":       {[]any{"image is an old name: …"}, "It works; write it as it is called today when you edit the job."},
	"VM %s, which an earlier start": {[]any{"virt-task-5a6e215e"}, "Nomad or the plugin was killed before that start was known. " +
		"Its disks are kept as they say."},
	"VM %s is unknown to libvirt": {
		[]any{"virt-task-5a6e215e", 24.0, "virt-task-5a6e215e", "virt-task-5a6e215e"},
		"`/etc/libvirt` was restored, or an older libvirt cannot read what a newer one wrote. The task is started anew, with new disks; " +
			"what is worth keeping is in the volumes.",
	},
	"The guest goes on, it is not paused": {nil, "Somebody resumed it."},
	"The guest is paused by another hand": {[]any{"virt-task-5a6e215e"}, "`virsh suspend`, for one. The task runs meanwhile."},
	"The VM had been taken off bridge ":   {[]any{"virbr0"}, "`virsh net-destroy` does that, and `net-start` does not put it back."},
	"The task's ports are published for ": {nil, "The other task has ended."},
	"Somebody had changed ":               {nil, "A firewall was reloaded, or `nft flush ruleset` run."},
	"Port %s is published for VM ":        {[]any{"http", "blue-task-5a6e215e"}, "Two tasks of the group publish one label."},
	"%s: %s":                              {[]any{"SIGSTOP", "the guest was paused, SIGCONT has it go on"}, "`nomad alloc signal` was used, or a template's `change_mode`."},
	"The guest's address on bridge %s is %s, as": {
		[]any{"br0", "192.0.2.5", "its agent", "; published for it: http"},
		"The bridge is of no libvirt network that gives out addresses: the guest was asked, or heard.",
	},
	"The guest's address %s on bridge ": {
		[]any{"192.0.2.5", "br0", ", and its ports are not published any more (http)", takenError("52:54:00:65:43:21")},
		"Two machines have one address, or the guest's lease went to another.",
	},
	"The guest has lost address ": {
		[]any{
			"192.0.2.5", "br0", takenError("52:54:00:65:43:21"),
			", and its ports may lead there still (http), because they cannot be withdrawn; it is tried again", "…",
		},
		"What follows is the cause. Who asks for these ports reaches the other machine, as long as that lasts.",
	},
	"The guest has address ": {
		[]any{"192.0.2.5", "br0", "…"}, "What follows is the cause. It is tried again every 2 seconds.",
	},
	"The guest has not answered ": {
		[]any{"192.0.2.5", "br0", searchPatience, "http", errNobody}, "The guest hangs, has another address, or the host's on that bridge is gone.",
	},
	"The guest's address on bridge %s is not": {
		[]any{
			"br0", searchPatience, ", and its ports are not published (http)",
			"its agent tells nothing (…); ARP tells of no IPv4 address of 52:54:00:12:34:56",
		},
		"The guest has no network there, or a firewall. `address` in the job, or a DHCP server on that bridge, gives it one.",
	},
	"Started VM ": {[]any{"virt-task-5a6e215e", "", ", its address is 192.168.122.54"}, "The VM runs, and its guest boots."},
}

// toldAnywhere finds the events whose texts stand where they are told.
func toldAnywhere(t *testing.T) (all []doctest.Message) {
	t.Helper()
	told := make(map[string]bool)
	formats := append(doctest.Texts(t, "tell", 0, ".", "../storage"), doctest.Texts(t, "tellOnce", 1, ".")...)
	for _, c := range formats {
		known := false
		for begins, m := range toldBySource {
			if strings.HasPrefix(c.Format, begins) {
				known, told[begins] = true, true
				all = append(all, doctest.Message{Said: fmt.Sprintf(c.Format, m.args...), Why: m.why})
			}
		}
		if !known && c.Format != "%s" {
			t.Errorf("%s tells %q, which is not in the table of events", c.Place, c.Format)
		}
	}
	for begins := range toldBySource {
		if !told[begins] {
			t.Errorf("nothing tells what begins with %q any more", begins)
		}
	}
	return all
}

func free(b vm.Bytes) room { return &b }

func volumeOf(pool string) vm.Volume {
	return vm.Volume{Pool: pool, Path: "/var/lib/virt/storage/virt-task-5a6e215e-vda.qcow2"}
}

func TestMessagesOfSignals(t *testing.T) {
	d, _ := newDriver(t)
	var all []doctest.Message
	add := func(err error, why string) {
		t.Helper()
		if err == nil {
			t.Fatal("there is no error")
		}
		all = append(all, doctest.Message{Said: err.Error(), Why: why})
	}
	c := newClient(t)
	p, cfg := c.plugin(t), emptyTask(t)
	p.start(t, cfg)
	err := p.SignalTask(cfg.ID, "SIGHUP")
	add(errors.New(afterRPC(err)), "A machine is no process: to have a service in the guest read its configuration again, "+
		"have the guest watch the file below `/local`, or take `change_mode = \"restart\"`.")
	add(d.RecoverTask(nil), "Nomad's state is damaged. The task is started anew.")
	handle := drivers.NewTaskHandle(99)
	handle.Config = cfg
	add(d.RecoverTask(handle), "An older plugin was put in place of a newer one.")
	doctest.Page(t, messagesPage, *update, doctest.Section{Name: "messages of signals", Text: doctest.Messages(all)})
}
