package driver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	pstructs "github.com/hashicorp/nomad/plugins/shared/structs"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// written is what Nomad makes of attributes.
func written(all map[string]*pstructs.Attribute) map[string]string {
	texts := make(map[string]string)
	for name, a := range all {
		texts[name] = a.GoString()
	}
	return texts
}

func guestArch(arch string, accel vm.Accel, machines ...string) hypervisor.GuestArch {
	return hypervisor.GuestArch{Guest: domxml.Guest{Arch: arch, Usual: machines}, Accel: accel}
}

// Job files have constraints on these.
func TestAttributesOfTheNode(t *testing.T) {
	config := Config{StoragePools: &StoragePools{
		Default:   "local",
		Directory: map[string]DirectoryPool{"local": {}, "fast": {}},
		Ceph:      map[string]CephPool{"remote": {}},
	}}
	got := written(attributes(config, offer{
		libvirt: 9_000_000,
		qemu:    7_002_022,
		facts: hypervisor.Facts{
			Arch: "x86_64", Accel: vm.TCG,
			Networks: []domxml.Network{{Name: "default", Bridge: "virbr0"}},
		},
		guests: []hypervisor.GuestArch{guestArch("x86_64", vm.TCG, "pc", "q35"), guestArch("aarch64", vm.TCG, "virt")},
	}))
	want := map[string]string{
		"driver.virt":                                          "true",
		"driver.virt.acceleration":                             "tcg",
		"driver.virt.arch":                                     "x86_64",
		"driver.virt.arch.x86_64":                              "tcg",
		"driver.virt.arch.x86_64.machines":                     "pc,q35",
		"driver.virt.arch.aarch64":                             "tcg",
		"driver.virt.arch.aarch64.machines":                    "virt",
		"driver.virt.provider.libvirt":                         "true",
		"driver.virt.provider.libvirt.version":                 "9000000",
		"driver.virt.provider.libvirt.version.readable":        "9.0.0",
		"driver.virt.provider.libvirt.driver":                  "QEMU",
		"driver.virt.provider.libvirt.driver.version":          "7002022",
		"driver.virt.provider.libvirt.driver.version.readable": "7.2.22",
		"driver.virt.network.default.state":                    "active",
		"driver.virt.network.default.bridge_name":              "virbr0",
		"driver.virt.storage_pool.local":                       "directory",
		"driver.virt.storage_pool.local.provider.libvirt":      "true",
		"driver.virt.storage_pool.local.default":               "true",
		"driver.virt.storage_pool.fast":                        "directory",
		"driver.virt.storage_pool.fast.provider.libvirt":       "true",
		"driver.virt.storage_pool.remote":                      "ceph",
		"driver.virt.storage_pool.remote.provider.libvirt":     "true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestArchitecturesOfANodeAreThoseThatItsConfigurationLetsRun(t *testing.T) {
	for acceleration, want := range map[string]string{
		accelerationAuto: "kvm tcg",
		accelerationKVM:  "kvm ",
		accelerationTCG:  "tcg tcg",
	} {
		config := emptyConfig()
		config.Acceleration = acceleration
		all := written(attributes(config, offer{
			guests: []hypervisor.GuestArch{guestArch("x86_64", vm.KVM), guestArch("aarch64", vm.TCG)},
		}))
		if got := all["driver.virt.arch.x86_64"] + " " + all["driver.virt.arch.aarch64"]; got != want {
			t.Errorf("with acceleration %s x86_64 and aarch64 are %q, want %q", acceleration, got, want)
		}
	}
}

func TestAttributesThatAreGoneAreWithdrawn(t *testing.T) {
	of := func(values ...string) map[string]*pstructs.Attribute {
		all := make(map[string]*pstructs.Attribute)
		for _, v := range values {
			all[v] = pstructs.NewStringAttribute("here")
		}
		return all
	}
	last := attributesAfter(nil, of("driver"), false)
	for i, test := range []struct {
		now  map[string]*pstructs.Attribute
		seen bool
		want map[string]string
	}{
		{of("driver", "a", "b"), true, map[string]string{"driver": "here", "a": "here", "b": "here"}},
		{of("driver"), false, map[string]string{"driver": "here", "a": "here", "b": "here"}},
		{of("driver", "a"), true, map[string]string{"driver": "here", "a": "here", "b": ""}},
		{of("driver", "a"), true, map[string]string{"driver": "here", "a": "here", "b": ""}}, // still: the node may not have heard
		{of("driver"), false, map[string]string{"driver": "here", "a": "here", "b": ""}},
		{of("driver", "a", "b"), true, map[string]string{"driver": "here", "a": "here", "b": "here"}},
	} {
		last = attributesAfter(last, test.now, test.seen)
		if diff := cmp.Diff(test.want, written(last)); diff != "" {
			t.Errorf("report %d (-want +got):\n%s", i, diff)
		}
	}
}
