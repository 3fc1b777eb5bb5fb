package driver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl"

	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

func TestReadConfigReadsWhatTheAgentDoes(t *testing.T) {
	for _, test := range []struct {
		name, block string
		want        func(*Config)
		warnings    int
		wrong       string
	}{
		{name: "an empty block"},
		{name: "blocks", block: `storage_pools { directory "a" { path = "/a" } }`, want: func(c *Config) { c.StoragePools = onePool("a", "/a") }},
		{name: "an old name", block: `data_dir = "/d"`, want: func(c *Config) { c.StoragePools = onePool("virt-sp", "/d/virt-sp") }, warnings: 1},
		{
			name:  "what is refused is told of what is read",
			block: `acceleration = "much"`,
			want:  func(c *Config) { c.Acceleration = "much" },
			wrong: `the configuration of plugin nomad-driver-virt: acceleration: "much" is none of auto, kvm, tcg`,
		},
		{
			name:  "what the schema does not have",
			block: `image_path = ["/a"]`,
			wrong: `the configuration of plugin nomad-driver-virt: config: Invalid label: ` +
				`No argument or block type is named "image_path". Did you mean "image_paths"?`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var block map[string]any
			if err := hcl.Decode(&block, test.block); err != nil {
				t.Fatal(err)
			}
			want := emptyConfig()
			if test.want != nil {
				test.want(&want)
			}
			got, warnings, err := ReadConfig(block)
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || len(warnings) != test.warnings {
				t.Errorf("want %d warnings, got %q, and the configuration (-want +got):\n%s", test.warnings, warnings, diff)
			}
			if diff := diffError(test.wrong, err); diff != "" {
				t.Errorf("the error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlacesOfPools(t *testing.T) {
	c := Config{StoragePools: &StoragePools{
		Directory: map[string]DirectoryPool{"b": {Path: "/b"}},
		Ceph:      map[string]CephPool{"a": {Pool: "p", Hosts: []string{"mon"}, Authentication: &CephAuthentication{Username: "client.u", Secret: "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="}}},
	}}.withDefaults()
	got := c.Places()
	want := []Place{
		{Name: "a", Ceph: &rbd.Pool{RBD: vm.RBD{Pool: "p", User: "u", Monitors: []string{"mon:3300"}, Secret: got[0].Ceph.Secret}, Key: "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="}},
		{Name: "b", Path: "/b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the places (-want +got):\n%s", diff)
	}
}
