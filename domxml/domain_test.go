package domxml

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
			Mount: "/run/nomad-driver-virt/" + name + "/" + tag, Target: "/" + tag,
		}
	}
	return &vm.Spec{
		Name: name,
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
			Device: "vda", Bus: "virtio", Driver: "qemu",
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
// type, a chained and an empty read-only disk, two cores, two interfaces, 9p.
func everything() *vm.Spec {
	s := example()
	s.Accel, s.CPUModel, s.Machine = vm.KVM, "Skylake-Server", "q35"
	s.VCPUs, s.Cores = 2, []uint{2, 5}
	overlay := &s.Disks[0]
	overlay.Base = &vm.Base{
		Volume:  volume("base-0123456789abcdef0123456789abcdef.qcow2", "qcow2", 2*vm.GiB),
		Staging: volume(s.Name+"-base.qcow2", "qcow2", 2*vm.GiB),
	}
	s.Disks = append(s.Disks, vm.Disk{
		Volume: volume(s.Name+"-1.img", "raw", vm.GiB), Device: "sdb", Bus: "scsi", Driver: "qemu", ReadOnly: true,
	})
	s.Interfaces = append(s.Interfaces, vm.Interface{Bridge: "br-lan", MAC: "52:54:00:12:34:57"})
	for i := range s.Shares {
		s.Shares[i].Type = vm.NineP
	}
	return s
}

func foreign() *vm.Spec {
	s := example()
	s.Arch, s.Machine, s.CPUModel = "aarch64", "virt", "cortex-a57"
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
				if diff := cmp.Diff(journalOf(s), got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", form.name, diff)
				}
			}
		})
	}
}

// journalOf is what the journal of a VM has to tell.
func journalOf(s *vm.Spec) Journal {
	j := Journal{Owner: s.Owner}
	for _, v := range s.Volumes() {
		j.Volumes = append(j.Volumes, vm.Volume{Pool: v.Pool, Name: v.Name, Path: v.Path})
	}
	for _, i := range s.Interfaces {
		j.Interfaces = append(j.Interfaces, vm.Interface{Network: i.Network, MAC: i.MAC})
	}
	return j
}

func TestParseJournalRefusesWhatIsNotXML(t *testing.T) {
	for _, document := range []string{"", "vm", "<vm>", "<other/>"} {
		if j, err := ParseJournal(document); err == nil {
			t.Errorf("ParseJournal(%q) = %+v, want an error", document, j)
		}
	}
}
