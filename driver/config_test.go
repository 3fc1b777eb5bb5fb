package driver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/nomad/plugins/base"
)

// emptyConfig is what an empty config block means.
func emptyConfig() Config {
	return Config{
		Provider:     &Provider{Libvirt: &Libvirt{URI: "qemu:///system"}},
		StoragePools: onePool("nomad", "/var/lib/virt/storage"),
		Acceleration: "auto",

		RemoveOrphansAfter: "5m",
	}
}

// onePool is the storage pools of a configuration that has one directory.
func onePool(name, path string) *StoragePools {
	return &StoragePools{
		Default:         name,
		KeepUnusedBases: "24h",
		Directory:       map[string]DirectoryPool{name: {Path: path}},
	}
}

func TestAgentConfiguration(t *testing.T) {
	for _, test := range []struct {
		name   string
		config string
		want   func(*Config) // changes what an empty configuration means
		warns  []string
	}{
		{name: "empty", want: func(*Config) {}},
		{
			name:   "an empty block for everything",
			config: `provider "libvirt" {} storage_pools {}`,
			want:   func(*Config) {},
		},
		{
			name:   "image files and one pool, which is the default",
			config: `image_paths = ["/srv/images"] storage_pools { directory "local" { path = "/srv/storage" } }`,
			want: func(c *Config) {
				c.ImagePaths = []string{"/srv/images"}
				c.StoragePools = onePool("local", "/srv/storage")
			},
		},
		{
			name: "everything",
			config: `
				image_paths     = ["/srv/images", "/opt/images"]
				user_data_paths = ["/srv/user-data"]
				acceleration    = "tcg"
				cpu_model       = "Nehalem"
				nwfilter        = "clean-traffic"

				remove_orphans_after = "1h"
				provider "libvirt" {
					uri      = "qemu:///session"
					user     = "nomad"
					password = "hush"
				}
				storage_pools {
					default           = "local"
					keep_unused_bases = "90m"
					directory "local" { path = "/srv/storage" }
					directory "fast"  { path = "/srv/fast" }
					ceph "remote" {
						pool  = "rbd"
						hosts = ["192.0.2.1:3300", "192.0.2.2:3300"]
						authentication {
							username = "nomad"
							secret   = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="
						}
					}
				}`,
			want: func(c *Config) {
				*c = Config{
					ImagePaths:    []string{"/srv/images", "/opt/images"},
					UserDataPaths: []string{"/srv/user-data"},
					Acceleration:  "tcg",
					CPUModel:      "Nehalem",
					NWFilter:      "clean-traffic",

					RemoveOrphansAfter: "1h",

					Provider: &Provider{Libvirt: &Libvirt{URI: "qemu:///session", User: "nomad", Password: "hush"}},
					StoragePools: &StoragePools{
						Default:         "local",
						KeepUnusedBases: "90m",
						Directory:       map[string]DirectoryPool{"local": {Path: "/srv/storage"}, "fast": {Path: "/srv/fast"}},
						Ceph: map[string]CephPool{"remote": {
							Pool:           "rbd",
							Hosts:          []string{"192.0.2.1:3300", "192.0.2.2:3300"},
							Authentication: &CephAuthentication{Username: "nomad", Secret: "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="},
						}},
					},
				}
			},
		},
		{
			name:   "how long bases are kept, and nothing else of pools",
			config: `storage_pools { keep_unused_bases = "0s" }`,
			want:   func(c *Config) { c.StoragePools.KeepUnusedBases = "0s" },
		},
		{
			name:   "a provider block that holds libvirt's",
			config: `provider { libvirt { uri = "qemu:///session" } }`,
			want:   func(c *Config) { c.Provider.Libvirt.URI = "qemu:///session" },
		},
		{
			name:   "writable mounts have no effect",
			config: `provider "libvirt" { allow_insecure_readonly_mounts = true }`,
			want:   func(c *Config) { c.Provider.Libvirt.AllowInsecureReadonlyMounts = true },
			warns: []string{"the plugin's configuration: provider.libvirt.allow_insecure_readonly_mounts has no effect: " +
				"the allocation's directories are read-only by the host's doing; leave it out"},
		},
		{
			name:   "beta: emulator",
			config: `emulator { uri = "qemu:///session" user = "nomad" password = "hush" }`,
			want: func(c *Config) {
				*c.Provider.Libvirt = Libvirt{URI: "qemu:///session", User: "nomad", Password: "hush"}
			},
			warns: []string{"the plugin's configuration: emulator is an old name: " +
				`write provider "libvirt" { uri = "qemu:///session" }, with user and password if they are needed`},
		},
		{
			name:   "beta: emulator beside today's provider, which wins",
			config: `emulator { uri = "qemu:///session" } provider "libvirt" { uri = "qemu:///system" }`,
			want:   func(*Config) {},
			warns: []string{"the plugin's configuration: emulator is an old name: " +
				`write provider "libvirt" { uri = "qemu:///session" }, with user and password if they are needed`},
		},
		{
			name:   "beta: data_dir",
			config: `data_dir = "/opt/virt"`,
			want:   func(c *Config) { c.StoragePools = onePool("virt-sp", "/opt/virt/virt-sp") },
			warns: []string{"the plugin's configuration: data_dir is an old name: " +
				`write storage_pools { directory "virt-sp" { path = "/opt/virt/virt-sp" } }`},
		},
		{
			name:   "beta: data_dir beside today's pools, which win",
			config: `data_dir = "/opt/virt" storage_pools { directory "local" { path = "/srv/storage" } }`,
			want:   func(c *Config) { c.StoragePools = onePool("local", "/srv/storage") },
			warns: []string{"the plugin's configuration: data_dir is an old name: " +
				`write storage_pools { directory "virt-sp" { path = "/opt/virt/virt-sp" } }`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, warned := newDriver(t)
			if err := setConfig(d, test.config); err != nil {
				t.Fatalf("the configuration is refused: %v", err)
			}
			want := emptyConfig()
			test.want(&want)
			if diff := cmp.Diff(want, d.config, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the configuration (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.warns, []string(*warned), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAgentConfigurationIsRefused(t *testing.T) {
	const plugin = "the configuration of plugin nomad-driver-virt: "
	for _, test := range []struct{ name, config, want string }{
		{
			"several pools without a default",
			`storage_pools { directory "b" { path = "/b" } directory "a" { path = "/a" } }`,
			plugin + "storage_pools.default: is missing; with several pools, name the one that disks are in by default: a, b",
		},
		{
			"a default that is no pool",
			`storage_pools { default = "c" directory "b" { path = "/b" } directory "a" { path = "/a" } }`,
			plugin + `storage_pools.default: there is no pool "c", there are: a, b`,
		},
		{
			"a default, and no pool",
			`storage_pools { default = "c" }`,
			plugin + "storage_pools: there is no pool; " +
				`add a block, directory "nomad" { path = "/var/lib/virt/storage" } for one`,
		},
		{
			"two directories of one name",
			`storage_pools { directory "a" { path = "/a" } directory "a" { path = "/b" } }`,
			`Duplicate directory block: A block for directory "a" was already defined. The directory labels must be unique.`,
		},
		{
			"a directory and a Ceph pool of one name",
			`storage_pools {
				default = "a"
				directory "a" { path = "/a" }
				ceph "a" { pool = "p" hosts = ["192.0.2.1"] authentication { username = "u" secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } }
			}`,
			plugin + `storage_pools: the name "a" is used twice, give each pool its own`,
		},
		{
			"a directory without a path",
			`storage_pools { directory "a" {} }`,
			plugin + `storage_pools.directory "a".path: is missing; name the directory, as in /var/lib/virt/storage`,
		},
		{
			"a directory with a relative path",
			`storage_pools { directory "a" { path = "storage" } }`,
			plugin + `storage_pools.directory "a".path: "storage" is no absolute path; begin it with /`,
		},
		{
			"a name that libvirt refuses",
			`storage_pools { directory "a/b" { path = "/a" } }`,
			plugin + `storage_pools.directory "a/b": "a/b" cannot be the name of a libvirt storage pool; give it one without /`,
		},
		{
			"too little time for tasks to turn up",
			`remove_orphans_after = "59s"`,
			plugin + `remove_orphans_after: "59s" is no duration of 1m at least; write it like 5m`,
		},
		{
			"bases that are kept for less than nothing",
			`storage_pools { keep_unused_bases = "-1h" }`,
			plugin + `storage_pools.keep_unused_bases: "-1h" is no duration; write it like 24h, or 0s to keep none`,
		},
		{
			"bases that are kept for what is no time",
			`storage_pools { keep_unused_bases = "a day" }`,
			plugin + `storage_pools.keep_unused_bases: "a day" is no duration; write it like 24h, or 0s to keep none`,
		},
		{
			"a Ceph pool of nothing",
			`storage_pools { ceph "a" {} }`,
			"the configuration of plugin nomad-driver-virt has 3 problems: " +
				`(1) storage_pools.ceph "a".pool: is missing; name a pool of the cluster, as ceph osd pool ls does ` +
				`(2) storage_pools.ceph "a".hosts: is missing; list the monitors, as address:port ` +
				`(3) storage_pools.ceph "a".authentication: needs a username and a secret: a client's name, and what ceph auth get-key prints of it`,
		},
		{
			"a Ceph pool without a secret",
			`storage_pools { ceph "a" { pool = "p" hosts = ["192.0.2.1"] authentication { username = "u" } } }`,
			plugin + `storage_pools.ceph "a".authentication: needs a username and a secret: a client's name, and what ceph auth get-key prints of it`,
		},
		{
			"a Ceph pool without a username, whose secret is not repeated",
			`storage_pools { ceph "a" { pool = "p" hosts = ["192.0.2.1"] authentication { secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } } }`,
			plugin + `storage_pools.ceph "a".authentication: needs a username and a secret: a client's name, and what ceph auth get-key prints of it`,
		},
		{
			"a secret that is no base64, and is not repeated",
			`storage_pools { ceph "a" { pool = "p" hosts = ["192.0.2.1"] authentication { username = "client.u" secret = "hush!" } } }`,
			plugin + `storage_pools.ceph "a".authentication.secret: is no key of Ceph's; take what ceph auth get-key client.u prints`,
		},
		{
			"a Ceph pool with a name that libvirt refuses",
			`storage_pools { ceph "a/b" { pool = "p" hosts = ["192.0.2.1"] authentication { username = "u" secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } } }`,
			plugin + `storage_pools.ceph "a/b": "a/b" cannot be the name of a libvirt storage pool; give it one without /`,
		},
		{
			"relative paths of files",
			`image_paths = ["/a", "images"] user_data_paths = ["", "/b"]`,
			"the configuration of plugin nomad-driver-virt has 2 problems: " +
				`(1) image_paths[1]: "images" is no absolute path; begin it with / (2) user_data_paths[0]: "" is no absolute path; begin it with /`,
		},
		{
			"an unknown acceleration",
			`acceleration = "KVM"`,
			plugin + `acceleration: "KVM" is none of auto, kvm, tcg`,
		},
		{
			"a URI of another host",
			`provider "libvirt" { uri = "qemu+ssh://root@example.com/system" }`,
			plugin + `provider.libvirt.uri: libvirt URI "qemu+ssh://root@example.com/system" is reached over a network; ` +
				"the driver manages the VMs of its own host, write it like qemu:///system",
		},
		{
			"a URI without a driver",
			`provider "libvirt" { uri = "/system" }`,
			plugin + `provider.libvirt.uri: libvirt URI "/system" names no driver, write it like qemu:///system`,
		},
		{
			"a user without a password",
			`provider "libvirt" { user = "nomad" }`,
			plugin + "provider.libvirt: user and password go together, one of them is missing",
		},
		{
			"a password without a user, which is not repeated",
			`emulator { password = "hush" }`,
			plugin + "provider.libvirt: user and password go together, one of them is missing",
		},
		{
			"a beta's relative data_dir",
			`data_dir = "virt"`,
			plugin + `storage_pools.directory "virt-sp".path: "virt/virt-sp" is no absolute path; begin it with /`,
		},
		{
			"an attribute that is not known",
			`image_path = "/a"`,
			`Extraneous JSON object property: No argument or block type is named "image_path". Did you mean "image_paths"?`,
		},
		{
			"everything at once",
			`image_paths  = ["images"]
			 acceleration = "xen"
			 provider "libvirt" { uri = "system" password = "hush" }
			 storage_pools {
				default = "b"
				directory "a" {}
				ceph "a" { authentication { username = "nomad" } }
			 }`,
			"the configuration of plugin nomad-driver-virt has 10 problems: " + strings.Join([]string{
				`(1) image_paths[0]: "images" is no absolute path; begin it with /`,
				`(2) provider.libvirt.uri: libvirt URI "system" names no driver, write it like qemu:///system`,
				"(3) provider.libvirt: user and password go together, one of them is missing",
				`(4) storage_pools: the name "a" is used twice, give each pool its own`,
				`(5) storage_pools.default: there is no pool "b", there are: a`,
				`(6) storage_pools.directory "a".path: is missing; name the directory, as in /var/lib/virt/storage`,
				`(7) storage_pools.ceph "a".pool: is missing; name a pool of the cluster, as ceph osd pool ls does`,
				`(8) storage_pools.ceph "a".hosts: is missing; list the monitors, as address:port`,
				`(9) storage_pools.ceph "a".authentication: needs a username and a secret: a client's name, and what ceph auth get-key prints of it`,
				`(10) acceleration: "xen" is none of auto, kvm, tcg`,
			}, " "),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, _ := newDriver(t)
			if diff := diffError(test.want, setConfig(d, test.config)); diff != "" {
				t.Errorf("the error (-want +got):\n%s", diff)
			}
			if d.machines != nil {
				t.Error("a configuration that is refused is used, want it to be left alone")
			}
		})
	}
}

func TestAgentWithoutConfigBlockHasTheDefaults(t *testing.T) {
	d, _ := newDriver(t)
	if err := d.SetConfig(&base.Config{}); err != nil {
		t.Fatalf("no configuration at all is refused: %v", err)
	}
	if diff := cmp.Diff(emptyConfig(), d.config, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the configuration (-want +got):\n%s", diff)
	}
}
