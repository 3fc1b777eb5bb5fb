package driver

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// exampleTask is the config block that the README shows.
const exampleTask = `
	default_user_password = "password"
	cmds                  = ["python3 -m http.server 8000 -d /local"]
	disk {
		size = "10GiB"
		source { image = "debian-12.qcow2" }
	}
	network_interface {
		bridge {
			name  = "virbr0"
			ports = ["http"]
		}
	}`

func TestTaskConfiguration(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		name, config string
		want         TaskConfig
		warns        []string
	}{
		{name: "empty"},
		{
			name:   "the example",
			config: exampleTask,
			want: TaskConfig{
				DefaultUserPassword: "password",
				Cmds:                []string{"python3 -m http.server 8000 -d /local"},
				Disks:               []Disk{{Size: "10GiB", Source: &DiskSource{Image: "debian-12.qcow2"}}},
				NetworkInterfaces:   []NetworkInterface{{Bridge: &Bridge{Name: "virbr0", Ports: []string{"http"}}}},
			},
		},
		{
			name: "every attribute",
			config: `
				cmds = ["echo 'one'", "echo \"two\""]
				default_user_authorized_ssh_key = "ssh-ed25519 AAAA me"
				default_user_password           = "hush"
				hostname  = "web"
				user_data = "local/user-data"
				timezone  = "Europe/Berlin"
				mounts    = "9p"
				os {
					arch    = "x86_64"
					machine = "q35"
				}
				network_interface {
					bridge {
						name  = "virbr0"
						ports = ["http", "ssh"]
					}
				}
				network_interface {
					macvtap {
						device = "eth0"
						mode   = "bridge"
					}
				}
				disk {
					bus_type  = "virtio"
					chained   = true
					devname   = "vdb"
					driver    = "qemu"
					format    = "qcow2"
					keep      = "24h"
					kind      = "disk"
					pool      = "local"
					primary   = true
					read_only = true
					size      = "10 GB"
					sparse    = true
					volume    = "/dev/vdb"
					source {
						format    = "raw"
						image     = "a.img"
						overwrite = true
						volume    = "b"
					}
				}`,
			want: TaskConfig{
				Cmds:                []string{"echo 'one'", `echo "two"`},
				DefaultUserSSHKey:   "ssh-ed25519 AAAA me",
				DefaultUserPassword: "hush",
				Hostname:            "web",
				UserData:            "local/user-data",
				Timezone:            "Europe/Berlin",
				Mounts:              "9p",
				OS:                  &OS{Arch: "x86_64", Machine: "q35"},
				NetworkInterfaces: []NetworkInterface{
					{Bridge: &Bridge{Name: "virbr0", Ports: []string{"http", "ssh"}}},
					{Macvtap: &Macvtap{Device: "eth0", Mode: "bridge"}},
				},
				Disks: []Disk{{
					BusType: "virtio", Chained: true, Devname: "vdb", Driver: "qemu", Format: "qcow2", Keep: "24h", Kind: "disk",
					Pool: "local", Primary: true, ReadOnly: true, Size: "10 GB", Sparse: &yes, Volume: "/dev/vdb",
					Source: &DiskSource{Format: "raw", Image: "a.img", Overwrite: true, Volume: "b"},
				}},
			},
		},
		{
			name:   "a size as a number, and as a string",
			config: `disk { size = 10737418240 } disk { size = "10737418240" }`,
			want:   TaskConfig{Disks: []Disk{{Size: "10737418240"}, {Size: "10737418240"}}},
		},
		{
			name:   "disks that are alike stay several, in their order",
			config: `disk { size = "1GiB" } disk { primary = true } disk { size = "1GiB" }`,
			want:   TaskConfig{Disks: []Disk{{Size: "1GiB"}, {Primary: true}, {Size: "1GiB"}}},
		},
		{
			name:   "sparse: unset is neither true nor false",
			config: `disk { size = 1 } disk { sparse = true } disk { sparse = false }`,
			want:   TaskConfig{Disks: []Disk{{Size: "1"}, {Sparse: &yes}, {Sparse: &no}}},
		},
		{
			name:   "beta: an image",
			config: `image = "local/a.img"`,
			want:   TaskConfig{Disks: []Disk{{Primary: true, Source: &DiskSource{Image: "local/a.img"}}}},
			warns: []string{"image, primary_disk_size and use_thin_copy are old names: " +
				`write a block disk, and in it a block source with image = "local/a.img"`},
		},
		{
			name:   "beta: an image, a size in MiB and a thin copy",
			config: `image = "local/a.img" primary_disk_size = 10000 use_thin_copy = true`,
			want: TaskConfig{Disks: []Disk{{
				Primary: true, Chained: true, Size: "10000MiB", Source: &DiskSource{Image: "local/a.img"},
			}}},
			warns: []string{"image, primary_disk_size and use_thin_copy are old names: " +
				`write a block disk with size = "10000MiB" and chained = true, and in it a block source with image = "local/a.img"`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, warned := newDriver(t)
			got, err := decodeTask(d, test.config)
			if err != nil {
				t.Fatalf("the configuration is refused: %v", err)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the configuration (-want +got):\n%s", diff)
			}
			var warns []string
			for _, w := range test.warns {
				warns = append(warns, "the task's configuration: "+w)
			}
			if diff := cmp.Diff(warns, []string(*warned), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTaskConfigurationIsRefused(t *testing.T) {
	const twice = "config: image, primary_disk_size and use_thin_copy are old names for what a disk block says, " +
		"and there is one: leave them out"
	for _, test := range []struct{ name, config, want string }{
		{"beta: an image beside a disk", `image = "a.img" disk { size = 1 }`, twice},
		{"beta: a size beside a disk", `primary_disk_size = 1 disk { size = 1 }`, twice},
		{"beta: a thin copy beside a disk", `use_thin_copy = true disk { size = 1 }`, twice},
		{
			"an attribute that is not known",
			`disk { bustype = "virtio" }`,
			`Extraneous JSON object property: No argument or block type is named "bustype". Did you mean "bus_type"?`,
		},
		{
			"two blocks of what there is one of",
			`disk { source { image = "a" } source { image = "b" } }`,
			"Duplicate source block: Only one block of type \"source\" is allowed. Previous definition was at ",
		},
		{
			"beta: a size that is no whole number",
			`image = "a.img" primary_disk_size = 1.5`,
			"the task's configuration cannot be read: ",
		},
		{
			"beta: a size below nothing",
			`image = "a.img" primary_disk_size = -1`,
			"the task's configuration cannot be read: ",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, _ := newDriver(t)
			_, err := decodeTask(d, test.config)
			// What comes after a space is another's words.
			if err == nil || !strings.HasPrefix(err.Error(), test.want) ||
				!strings.HasSuffix(test.want, " ") && err.Error() != test.want {
				t.Errorf("the error is\n%v\nwant\n%s", err, test.want)
			}
		})
	}
}

func TestOldNamesAreAnEventOfTheTask(t *testing.T) {
	d, _ := newDriver(t)
	events, err := d.TaskEvents(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeTask(d, `image = "a.img"`); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-events:
		want := "In config, image, primary_disk_size and use_thin_copy are old names: " +
			`write a block disk, and in it a block source with image = "a.img"`
		if event.Message != want || event.TaskID != nomadTask().ID {
			t.Errorf("task %s has the event %q, want task %s to have %q", event.TaskID, event.Message, nomadTask().ID, want)
		}
	case <-deadline(t).Done():
		t.Errorf("the task has no event within %s, want one that tells what to write", testDeadline)
	}
}
