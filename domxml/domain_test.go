package domxml

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"libvirt.org/go/libvirtxml"

	"nomad-driver-virt/vm"
)

const (
	pool  = "/var/lib/virt/storage/"
	alloc = "8f2c1d6e-3a4b-4c5d-9e6f-7a8b9c0d1e2f"
)

// example is the VM of the README's first job: a copied image, virtiofs shares,
// one reserved core, on a host without KVM.
func example() *vm.Spec {
	const name = "virt-task-5a6e215e"
	share := func(tag, source string) vm.Share {
		return vm.Share{
			Type: vm.VirtioFS, Tag: tag, Source: source,
			Mount: "/run/nomad-driver-virt/" + name + "/" + tag, Target: "/" + tag, ReadOnly: true,
		}
	}
	return &vm.Spec{
		Name:       name,
		ConsoleLog: "/var/log/libvirt/nomad-driver-virt/" + name + "/console.log",
		Owner: vm.Owner{
			Node: "1c2d3e4f-0000-4000-8000-000000000001", Namespace: "default", Job: "python-server", Group: "virt-group",
			Task: "virt-task", Alloc: alloc, TaskID: alloc + "/virt-task/5a6e215e",
		},
		Accel:    vm.TCG,
		CPUModel: vm.CPUMaximum,
		Arch:     "x86_64",
		VCPUs:    1,
		Cores:    []uint{1},
		Memory:   vm.GiB,
		Disks: []vm.Disk{{
			Volume: volume(name+".qcow2", "qcow2", 10*vm.GiB),
			Device: "vda", Bus: "virtio", Kind: vm.HardDisk,
			Image: &vm.Image{Path: "/var/lib/virt/images/debian-12.qcow2", Format: "qcow2", Size: 2 * vm.GiB},
		}},
		Interfaces: []vm.Interface{{Bridge: "virbr0", Network: "default", MAC: "52:54:00:12:34:56"}},
		Shares: []vm.Share{
			share("alloc", "/opt/nomad/alloc/"+alloc+"/alloc"),
			share("local", "/opt/nomad/alloc/"+alloc+"/virt-task/local"),
			share("secrets", "/opt/nomad/alloc/"+alloc+"/virt-task/secrets"),
		},
		SeedVolume: volume(name+"-seed.img", "raw", vm.MiB),
	}
}

// everything has what the example has not: KVM and a named CPU model, a machine
// type, disks of every kind, on every bus and in every place, two cores, two
// interfaces, 9p.
func everything() *vm.Spec {
	s := example()
	s.Accel, s.CPUModel, s.Machine = vm.KVM, "Skylake-Server", "q35"
	s.VCPUs, s.Cores = 2, []uint{2, 5}
	s.MemoryMax = 2 * s.Memory
	overlay := &s.Disks[0]
	overlay.Base = &vm.Base{
		Volume:  volume("base-0123456789abcdef0123456789abcdef.qcow2", "qcow2", 2*vm.GiB),
		Staging: volume(s.Name+"-base.qcow2", "qcow2", 2*vm.GiB),
	}
	overlay.Volume.Parent, overlay.Volume.Keep = overlay.Base.Name, 24*time.Hour
	add := func(device, bus string, kind vm.DiskKind, readOnly bool, v vm.Volume) {
		s.Disks = append(s.Disks, vm.Disk{Volume: v, Device: device, Bus: bus, Kind: kind, ReadOnly: readOnly})
	}
	add("sdb", "scsi", vm.HardDisk, true, volume(s.Name+"-sdb.img", "raw", vm.GiB))
	add("sda", "sata", vm.CDROM, true, volume(s.Name+"-sda.img", "raw", vm.GiB))
	add("sdd", "usb", vm.HardDisk, false, volume(s.Name+"-sdd.img", "raw", vm.GiB))
	add("sdc", "scsi", vm.LUN, false, vm.Volume{Path: "/dev/loop7", Format: "raw"})
	add("vdb", "virtio", vm.HardDisk, false, vm.Volume{
		Pool: "ceph", Name: s.Name + "-vdb", Format: "raw", Size: vm.GiB, Sparse: true,
		RBD: &vm.RBD{
			Pool: "nomad-pool", User: "nomad", Secret: "6f1c2f6e-3a4b-4c5d-9e6f-7a8b9c0d1e2f",
			Monitors: []string{"192.0.2.1:3300", "[2001:db8::1]:6789"},
		},
	})
	s.Interfaces = append(s.Interfaces,
		vm.Interface{
			Bridge: "br-lan", MAC: "52:54:00:12:34:57", Address: netip.MustParsePrefix("10.1.2.3/16"),
			Ports: []vm.Port{{Label: "http", Host: netip.MustParseAddrPort("192.0.2.10:25000"), Guest: 8000}},
		},
		vm.Interface{Device: "eth0", Mode: "private", MAC: "52:54:00:12:34:58"},
		vm.Interface{
			Bridge: "virbr7", Network: "lab", MAC: "52:54:00:12:34:59", Reserved: true, Isolated: true,
			Filter: vm.Filter{Name: "clean-traffic", DHCPServer: netip.MustParseAddr("192.168.7.1")},
		},
		vm.Interface{
			Bridge: "virbr8", Network: "dual", MAC: "52:54:00:12:34:5a",
			Address6: netip.MustParsePrefix("fd42::5054:ff:fe12:345a/64"), Gateway6: netip.MustParseAddr("fd42::1"),
			Ports: []vm.Port{{Label: "ssh", Host: netip.MustParseAddrPort("[2001:db8::10]:25001"), Guest: 22, Beside: true}},
		})
	s.Interfaces[1].Filter = vm.Filter{Name: "clean-traffic", Address: netip.MustParseAddr("10.1.2.3")}
	s.Shares = append(s.Shares, vm.Share{Tag: "volume0", Mount: "/run/nomad-driver-virt/" + s.Name + "/volume0", Target: "/data"})
	for i := range s.Shares {
		s.Shares[i].Type = vm.NineP
	}
	return s
}

func foreign() *vm.Spec {
	s := example()
	s.Arch, s.Machine, s.CPUModel = "aarch64", "virt", "cortex-a72"
	s.Cores = nil
	return s
}

func volume(name, format string, size vm.Bytes) vm.Volume {
	return vm.Volume{Pool: "nomad", Name: name, Path: pool + name, Format: format, Size: size, Sparse: true}
}

func TestDomain(t *testing.T) {
	for name, s := range map[string]*vm.Spec{
		"domain-example.xml":    example(),
		"domain-everything.xml": everything(),
		"domain-aarch64.xml":    foreign(),
	} {
		t.Run(name, func(t *testing.T) {
			document, err := Domain(s)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, document)
		})
	}
}

// Under KVM the interrupt controller is the host's.
func TestGICIsAskedForWhereItIsEmulated(t *testing.T) {
	for accel, want := range map[vm.Accel]bool{vm.TCG: true, vm.KVM: false} {
		s := foreign()
		s.Accel = accel
		document, err := Domain(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(document, "<gic "); got != want {
			t.Errorf("under %s a version of the GIC is asked for: %t, want %t", accel, got, want)
		}
	}
}

func TestDomainHoldsNoSecret(t *testing.T) {
	s := example()
	s.Seed = vm.Seed{
		Password: "hunter2", AuthorizedKey: "hunter2", Cmds: []string{"hunter2"},
		Env: map[string]string{"TOKEN": "hunter2"}, UserData: []byte("hunter2"),
	}
	document, err := Domain(s)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(document, "hunter2") {
		t.Errorf("the domain shows what only its guest may know:\n%s", document)
	}
}

// The journal has to come back as it was written, whatever a job is called:
// by it a VM is found again.
func TestJournalOutlastsHostileNames(t *testing.T) {
	for _, name := range []string{
		"plain", `it's "quoted"`, "<vm>", "</vm></metadata>", "a&b &amp; c", "]]>", "späßig 日本 🐧",
		" spaces  inside ", "tab\tand\nline",
	} {
		t.Run(name, func(t *testing.T) {
			s := everything()
			s.Owner = vm.Owner{
				Node: name, Namespace: name, Job: name, Group: name, Task: name, Alloc: alloc,
				TaskID: alloc + "/" + name + "/5a6e215e",
			}
			document, err := Domain(s)
			if err != nil {
				t.Fatal(err)
			}
			var parsed libvirtxml.Domain
			if err := parsed.Unmarshal(document); err != nil {
				t.Fatal(err)
			}
			written := parsed.Metadata.XML
			nameSpace := ` xmlns="` + MetadataURI + `"`
			if !strings.Contains(written, nameSpace) {
				t.Fatalf("the metadata is not in the name space of the driver:\n%s", written)
			}
			for _, form := range []struct{ name, document string }{
				{"as written", written},
				{"as libvirt returns it", strings.Replace(written, nameSpace, "", 1)},
			} {
				got, err := ParseJournal(form.document)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(journalOf(s), got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
					t.Errorf("%s (-want +got):\n%s", form.name, diff)
				}
			}
		})
	}
}

// journalOf is what the journal of a VM has to tell.
func journalOf(s *vm.Spec) Journal {
	noted := func(v vm.Volume) vm.Volume {
		return vm.Volume{Pool: v.Pool, Name: v.Name, Path: v.Path, Parent: v.Parent, Keep: v.Keep}
	}
	j := Journal{Owner: s.Owner, Disks: make(map[string]vm.Volume)}
	for _, v := range s.Volumes() {
		j.Volumes = append(j.Volumes, noted(v))
	}
	for _, d := range s.Disks {
		if d.Volume.Pool != "" {
			j.Disks[d.Device] = noted(d.Volume)
		}
	}
	for _, i := range s.Interfaces {
		j.Interfaces = append(j.Interfaces, vm.Interface{
			Network: i.Network, MAC: i.MAC, Bridge: i.Bridge, Address: i.Address, Address6: i.Address6, Ports: i.Ports,
			Reserved: i.Reserved, Isolated: i.Isolated,
		})
	}
	return j
}

func TestParseInterfaces(t *testing.T) {
	s := everything()
	document, err := Domain(s)
	if err != nil {
		t.Fatal(err)
	}
	of := func(mac string, reserved bool) Interface { return Interface{mac, s.Name, s.Owner, reserved} }
	const foreign = "<domain><name>theirs</name><metadata><a:vm xmlns:a='urn:of-others'>" +
		"<a:task id='1'/></a:vm></metadata><devices><interface type='direct'><mac address='52:54:00:AA:BB:CC'/></interface>" +
		"<interface type='user'/></devices></domain>"
	prefixed := "<domain><name>ours</name><metadata><v:vm xmlns:v='" + MetadataURI + "'><v:task id='1'/>" +
		"<v:interface network='default' mac='52:54:00:aa:bb:cc' kept='true'/></v:vm></metadata>" +
		"<devices><interface type='bridge'><mac address='52:54:00:aa:bb:cc'/></interface></devices></domain>"
	for _, test := range []struct {
		name, document string
		want           []Interface
	}{
		{"of the driver's", document, []Interface{
			of("52:54:00:12:34:56", false), of("52:54:00:12:34:57", false), of("52:54:00:12:34:58", false),
			of("52:54:00:12:34:59", true), of("52:54:00:12:34:5a", false),
		}},
		{"of the driver's, in other words", prefixed, []Interface{{"52:54:00:aa:bb:cc", "ours", vm.Owner{TaskID: "1"}, true}}},
		{"of somebody else's", foreign, []Interface{{MAC: "52:54:00:aa:bb:cc", Domain: "theirs"}}},
		{"of none", "<domain><name>none</name></domain>", nil},
	} {
		got, err := ParseInterfaces(test.document)
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", test.name, err, diff)
		}
	}
	if all, err := ParseInterfaces("<domain>"); err == nil {
		t.Errorf("what is no XML was read as %v", all)
	}
}

func TestParseJournalRefusesWhatIsNotXML(t *testing.T) {
	for _, document := range []string{"", "vm", "<vm>", "<other/>"} {
		if j, err := ParseJournal(document); err == nil {
			t.Errorf("ParseJournal(%q) = %+v, want an error", document, j)
		}
	}
}
