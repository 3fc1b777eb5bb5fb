package doctor

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

func TestWhoMendsTheMemoryIsNotWarnedAgain(t *testing.T) {
	for _, test := range []struct {
		name          string
		memory, agent vm.Bytes // of the host, and what the agent takes it for
		accel         vm.Accel
	}{
		{"KVM", 64 * vm.GiB, 0, vm.KVM},
		{"emulated", 64 * vm.GiB, 0, vm.TCG},
		{"memory that is no whole MiB", 24_685_812 * vm.KiB, 0, vm.TCG},
		{"some of it is kept elsewhere", 64*vm.GiB + vm.KiB, 63 * vm.GiB, vm.KVM},
		{"the agent takes it for more", 64 * vm.GiB, 65*vm.GiB + vm.MiB, vm.KVM},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, f := healthy()
			f.Memory, f.Libvirt.Facts.Accel, s.Agent.Memory, s.Agent.Reserved = test.memory, test.accel, test.agent, 0
			warned := about("memory", *s, *f)
			var reserved vm.Bytes
			_, mend, _ := strings.Cut(warned.Mend, "reserved { ")
			if _, err := fmt.Sscanf(mend, "memory = %d }", &reserved); warned.Status != Warning || err != nil {
				t.Fatalf("want a warning that says how much to reserve, got %+v (%v)", warned, err)
			}
			s.Agent.Reserved = reserved * vm.MiB
			if again := about("memory", *s, *f); again.Status != OK {
				t.Errorf("with what mends it, %q, want it ok, got %+v", warned.Mend, again)
			}
			s.Agent.Reserved -= vm.MiB
			if less := about("memory", *s, *f); less.Status != Warning {
				t.Errorf("with 1 MiB less than what mends it, %q, want a warning, got %+v", warned.Mend, less)
			}
		})
	}
}

// about is the finding of a subject.
func about(subject string, s Settings, f Facts) Finding {
	for _, finding := range Examine(s, f) {
		if finding.Subject == subject {
			return finding
		}
	}
	return Finding{}
}

func TestPoolsInCephThatLibvirtDoesNotHave(t *testing.T) {
	other := PoolState{Err: fmt.Errorf("looking: %w", hypervisor.OtherPoolError{Reason: "is of type dir"})}
	findComplaints(t, []brokenHost{
		{"no storage driver", func(s *Settings, f *Facts) { inCeph(s); f.Libvirt.NoCephPools = true }, Problem, "pool ceph", "no storage driver for Ceph", "apt install libvirt-daemon-driver-storage-rbd && systemctl restart libvirtd"},
		{
			"no storage driver on Red Hat's", func(s *Settings, f *Facts) {
				inCeph(s)
				f.Libvirt.NoCephPools, f.System = true, System{RedHat: true, Modular: true}
			},
			Problem, "pool ceph", "no storage driver for Ceph", "dnf install libvirt-daemon-driver-storage-rbd && systemctl restart virtstoraged",
		},
		{"no storage driver, and a Ceph that is away", func(s *Settings, f *Facts) { inCeph(s); f.Libvirt.NoCephPools, f.Ceph["ceph"] = true, errNot }, Problem, "pool ceph", "it is not there", "docs/storage.md"},
		{"another pool of that name", func(s *Settings, f *Facts) { inCeph(s); f.Libvirt.Pools["ceph"] = other }, Problem, "pool ceph", "is of type dir", "another name in storage_pools"},
	})
	s, f := healthy()
	inCeph(s)
	if got := about("pool ceph", *s, *f); got.Status != OK {
		t.Errorf("a pool in Ceph that answers: %+v, want it ok", got)
	}
	s.Pools, f.Libvirt.NoCephPools = s.Pools[:1], true
	if got := Worst(Examine(*s, *f)); got != OK {
		t.Errorf("without a driver for Ceph, and without a pool there, the host is judged %s", got)
	}
}

func TestAPoolWhosePathIsAnothers(t *testing.T) {
	findComplaints(t, []brokenHost{{
		"another pool at that path", func(_ *Settings, f *Facts) { f.Libvirt.Pools["local"] = PoolState{Other: "default"} },
		Problem, "pool local", "libvirt has pool default at /pool, and takes no other there",
		"name the pool default in storage_pools of the plugin's configuration; or remove libvirt's, whose files stay: virsh pool-destroy default; virsh pool-undefine default",
	}})
	for found, want := range map[string]string{"": "", "local": "", "default": "default"} {
		if got := otherThan("local", found); got != want {
			t.Errorf("where libvirt has pool %q, the other is %q, want %q", found, got, want)
		}
	}
}

// The plugin's default is a pool nomad, and libvirt has the host's own at that path.
func TestPoolsOfAConfigurationThatIsNotReadAreUnchecked(t *testing.T) {
	const path = "/var/lib/virt/storage"
	for name, change := range map[string]func(*Settings, *Facts){
		"not named":       func(s *Settings, _ *Facts) { s.Agent = nil },
		"for root alone":  unread(fs.ErrPermission),
		"that is missing": unread(fs.ErrNotExist),
	} {
		s, f := healthy()
		s.Pools, f.Libvirt.Pools = []Pool{{Name: "nomad", Path: path}}, map[string]PoolState{"nomad": {Other: "local"}}
		change(s, f)
		for _, finding := range Examine(*s, *f) {
			if strings.HasPrefix(finding.Subject, "pool") || finding.Status != OK && finding.Subject != "agent" {
				t.Errorf("of a healthy host with a configuration %s is said %+v", name, finding)
			}
		}
	}
}

func TestPoolsThatAreNotMadeYet(t *testing.T) {
	missing := func(d Directory) func(*Settings, *Facts) {
		return func(_ *Settings, f *Facts) {
			asUser(f)
			d.Missing, d.At = true, "/srv"
			f.Directories["/pool"], f.Libvirt.Pools = d, nil
		}
	}
	const place = "/srv, in which the driver will make /pool,"
	findComplaints(t, []brokenHost{
		{"on a file system that is read-only", missing(Directory{ReadOnly: true}), Problem, "pool local", place + " is on a file system that is mounted read-only", "findmnt -n -o TARGET -T /srv)"},
		{"where QEMU does not get to", missing(Directory{Closed: "/home/alice"}), Problem, "pool local", "/home/alice does not let QEMU (libvirt-qemu) through to /pool", "setfacl -m u:64055:x /home/alice"},
		{"on a file system that is full", missing(Directory{Free: vm.GiB, Size: 100 * vm.GiB}), Problem, "pool local", place + " is full", "grow"},
		{"on a file system that is nearly full", missing(Directory{Free: 9 * vm.GiB, Size: 100 * vm.GiB}), Warning, "pool local", place + " is nearly full", "grow"},
		{"that cannot be made", missing(Directory{Err: errNot}), Problem, "pool local", "it is not there", "storage_pools"},
	})
}
