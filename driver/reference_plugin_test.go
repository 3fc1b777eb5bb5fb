package driver

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

const noneRefused = "nothing that it can say is wrong by itself"

// pluginTables is what the documentation says of the plugin's configuration.
var pluginTables = []referenceTable{
	{name: "plugin", rows: []attribute{
		{
			path: "image_paths", initial: "none", example: `["/var/lib/virt/images"]`,
			meaning: "Directories of the host whose image files any task may use. Absolute paths.",
			wrong:   `image_paths = ["images"]`,
		},
		{
			path: "user_data_paths", initial: "none", example: `["/var/lib/virt/user-data"]`,
			meaning: "The same for files of user data.",
			wrong:   `user_data_paths = ["~/user-data"]`,
		},
		{
			path: "acceleration", initial: "`auto`", example: `"kvm"`,
			meaning: "`auto`: KVM if libvirt offers it, else TCG, QEMU's translator. `kvm`: the driver is unhealthy without KVM, and " +
				"guests of other architectures are refused. `tcg`: always TCG.",
			wrong: `acceleration = "hvf"`,
		},
		{
			path: "cpu_model", initial: "[depends](task-configuration.md#cpu-memory-acceleration)", example: `"Nehalem"`,
			meaning: "CPU model of the guests of the host's own architecture, by libvirt's name (`virsh cpu-models x86_64`).",
			never:   "libvirt knows the models, and says so at the start of a VM",
		},
		{
			path: "nwfilter", initial: "none", example: `"clean-traffic"`,
			meaning: "A [network filter](https://libvirt.org/formatnwfilter.html) of libvirt's (`virsh nwfilter-list`), put on every interface of " +
				"every VM; see [Filters](networking.md#filters). The driver is unhealthy if there is no filter of that name.",
			never: noneRefused,
		},
		{
			path: "remove_orphans_after", initial: "`5m`", example: `"1h"`,
			meaning: "How long a VM of this client may belong to no task, before it is shut down and [removed](storage.md#after-the-task); `1m` at least, " +
				"which tasks may take to turn up when the plugin restarts.",
			wrong: `remove_orphans_after = "5s"`,
		},
		{
			path: "provider", initial: "libvirt of this host",
			meaning: "Which libvirt: the block below. `provider \"libvirt\" { … }` and `provider { libvirt { … } }` are the same.",
			never:   noneRefused,
		},
		{
			path: "storage_pools", initial: "one pool, `nomad`, at `/var/lib/virt/storage`",
			meaning: "Where disks are kept: the block below.",
			wrong:   `storage_pools { directory "a" { path = "/srv/a" } directory "b" { path = "/srv/b" } default = "c" }`,
		},
	}},
	{name: "libvirt", below: "provider.libvirt", rows: []attribute{
		{path: "provider.libvirt", initial: "as below", meaning: "The block itself.", never: noneRefused},
		{
			path: "provider.libvirt.uri", initial: "`qemu:///system`", example: `"qemu:///system?socket=/run/libvirt/libvirt-sock"`,
			meaning: "A libvirt of this host. Its UNIX socket is found by itself, also that of the modular daemon (`virtqemud-sock`); " +
				"`qemu:///system?socket=/path` names another. A URI with a host name, or with a transport other than `unix`, is " +
				"refused: the driver works on the files of its own host.",
			wrong: `provider "libvirt" { uri = "qemu+ssh://root@other/system" }`,
		},
		{
			path: "provider.libvirt.user", initial: "none", example: `"nomad"`,
			meaning: "For a libvirt that asks who connects (SASL: `auth_unix_rw = \"sasl\"` in `libvirtd.conf`). SCRAM-SHA-256, " +
				"SCRAM-SHA-1 and PLAIN are known.",
			wrong: `provider "libvirt" { user = "nomad" }`,
		},
		{
			path: "provider.libvirt.password", initial: "none", example: `"hush"`,
			meaning: "Goes with `user`. A wrong one makes the driver unhealthy.",
			wrong:   `provider "libvirt" { password = "hush" }`,
		},
		{
			path: "provider.libvirt.allow_insecure_readonly_mounts", initial: "`false`", example: `false`,
			meaning: "Accepted, without effect, with a warning: the allocation's directories are read-only in any case.",
			never:   noneRefused,
		},
	}},
	{name: "pools", below: "storage_pools", rows: []attribute{
		{
			path: "storage_pools.default", initial: "the only pool", example: `"local"`,
			meaning: "The pool of disks that name none. Required if there are several pools.",
			wrong:   `storage_pools { directory "local" { path = "/srv/local" } directory "fast" { path = "/srv/fast" } }`,
		},
		{
			path: "storage_pools.keep_unused_bases", initial: "`24h`", example: `"168h"`,
			meaning: "How long a [base](storage.md#bases) stays that no disk overlays.",
			wrong:   `storage_pools { keep_unused_bases = "7d" directory "local" { path = "/srv/local" } }`,
		},
		{
			path: "storage_pools.directory", initial: "none",
			meaning: "A pool that is a directory of the host.",
			wrong:   `storage_pools { directory "a/b" { path = "/srv/a" } }`,
		},
		{
			path: "storage_pools.directory.path", initial: "required", example: `"/var/lib/virt/storage"`,
			meaning: "The directory, an absolute path. It is made with the pool.",
			wrong:   `storage_pools { directory "local" { path = "storage" } }`,
		},
		{
			path: "storage_pools.ceph", initial: "none",
			meaning: "A pool of a Ceph cluster; see [Ceph](storage.md#ceph).",
			wrong: `storage_pools { default = "one" directory "one" { path = "/srv" } ceph "one" { pool = "nomad-pool" ` +
				`hosts = ["192.0.2.1"] authentication { username = "nomad" secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } } }`,
		},
		{
			path: "storage_pools.ceph.pool", initial: "required", example: `"nomad-pool"`,
			meaning: "Ceph's name of the pool.",
			wrong:   cephWith("", `["192.0.2.1"]`, "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="),
		},
		{
			path: "storage_pools.ceph.hosts", initial: "required", example: `["192.0.2.1:3300", "[2001:db8::3]:3300"]`,
			meaning: "The monitors, as `address:port`; without a port 3300. An IPv6 address with a port is in brackets.",
			wrong:   cephWith(`pool = "nomad-pool"`, `["192.0.2.1:rados"]`, "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg=="),
		},
		{
			path: "storage_pools.ceph.authentication", initial: "required",
			meaning: "Who the driver is for Ceph.",
			wrong:   `storage_pools { ceph "remote" { pool = "nomad-pool" hosts = ["192.0.2.1"] } }`,
		},
		{
			path: "storage_pools.ceph.authentication.username", initial: "required", example: `"nomad"`,
			meaning: "The client's name, with or without `client.` before it.",
			wrong:   `storage_pools { ceph "remote" { pool = "nomad-pool" hosts = ["192.0.2.1"] authentication { secret = "AQDNFVpnAAAAABAAVqLzLf4DPfF5Ex5YbYkXkg==" } } }`,
		},
		{
			path: "storage_pools.ceph.authentication.secret", initial: "required", example: `"AQBzZWNyZXQgb2YgYSBjbGllbnQ="`,
			meaning: "The client's key in base64. It is in no log, error or argument of a program.",
			wrong:   cephWith(`pool = "nomad-pool"`, `["192.0.2.1"]`, "not a key"),
		},
	}},
	{name: "old plugin names", rows: []attribute{
		{
			path: "emulator", initial: "none",
			meaning: "Now `provider \"libvirt\"`, which wins if it is there too.",
			never:   noneRefused,
		},
		{path: "emulator.uri", initial: "`qemu:///system`", example: `"qemu:///system"`, meaning: "Now `provider.libvirt.uri`.",
			wrong: `emulator { uri = "qemu+tcp://other/system" }`},
		{path: "emulator.user", initial: "none", example: `"nomad"`, meaning: "Now `provider.libvirt.user`.", wrong: `emulator { user = "nomad" }`},
		{path: "emulator.password", initial: "none", example: `"hush"`, meaning: "Now `provider.libvirt.password`.",
			wrong: `emulator { password = "hush" }`},
		{
			path: "data_dir", initial: "none", example: `"/opt/virt"`,
			meaning: "`D` is now `storage_pools { directory \"virt-sp\" { path = \"D/virt-sp\" } }`. It has no effect where pools are configured.",
			wrong:   `data_dir = "virt"`,
		},
	}},
}

func cephWith(pool, hosts, secret string) string {
	return `storage_pools { ceph "remote" { ` + pool + "\n hosts = " + hosts +
		"\n authentication { username = \"nomad\"\n secret = \"" + secret + "\" } } }"
}

// pluginRefusal is what an agent is told about a configuration of the plugin.
func pluginRefusal(t *testing.T, config string) []string {
	t.Helper()
	d, _ := newDriver(t)
	return refusalOf(setConfig(d, config), "the configuration of plugin "+pluginBlock)
}

// refusalOf takes the problems of an error apart.
func refusalOf(err error, of string) []string {
	if err == nil {
		return nil
	}
	text, one := strings.CutPrefix(err.Error(), of+": ")
	if one {
		return []string{text}
	}
	return strings.Split(text, " (")
}

// acceptedBy tells whether a schema takes a configuration, whatever it means.
func acceptedBy(schema *hclspec.Spec, config string) error {
	var content map[string]any
	if err := hcl.Decode(&content, config); err != nil {
		return err
	}
	_, err := decodeBySchema(schema, content)
	return err
}
