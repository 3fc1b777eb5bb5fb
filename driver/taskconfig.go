package driver

import (
	"fmt"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"
)

// TaskConfig is a task's config block, as the job file has it.
type TaskConfig struct {
	Cmds                []string           `codec:"cmds"`
	DefaultUserSSHKey   string             `codec:"default_user_authorized_ssh_key"`
	DefaultUserPassword string             `codec:"default_user_password"`
	Hostname            string             `codec:"hostname"`
	UserData            string             `codec:"user_data"`
	Timezone            string             `codec:"timezone"`
	Mounts              string             `codec:"mounts"`
	VCPUs               *int               `codec:"vcpus"`
	OS                  *OS                `codec:"os"`
	NetworkInterfaces   []NetworkInterface `codec:"network_interface"`
	Disks               []Disk             `codec:"disk"`

	// Of the driver's betas: see translate.
	Image           string `codec:"image"`
	PrimaryDiskSize uint64 `codec:"primary_disk_size"`
	UseThinCopy     bool   `codec:"use_thin_copy"`
}

// OS is the block os: the machine that is emulated.
type OS struct {
	Arch    string `codec:"arch"`
	Machine string `codec:"machine"`
}

// NetworkInterface is a block network_interface, of one kind or the other.
type NetworkInterface struct {
	MAC     string   `codec:"mac"`
	Bridge  *Bridge  `codec:"bridge"`
	Macvtap *Macvtap `codec:"macvtap"`
}

// Bridge connects an interface to a bridge of the host, and publishes ports by
// the group's labels.
type Bridge struct {
	Name    string   `codec:"name"`
	Ports   []string `codec:"ports"`
	Address string   `codec:"address"`
	Gateway string   `codec:"gateway"`
	DNS     []string `codec:"dns"`
}

// Macvtap connects an interface to a network device of the host.
type Macvtap struct {
	Device string `codec:"device"`
	Mode   string `codec:"mode"`
}

// Disk is a block disk.
type Disk struct {
	BusType  string      `codec:"bus_type"`
	Chained  bool        `codec:"chained"`
	Devname  string      `codec:"devname"`
	Driver   string      `codec:"driver"`
	Format   string      `codec:"format"`
	Keep     string      `codec:"keep"`
	Kind     string      `codec:"kind"`
	Pool     string      `codec:"pool"`
	Primary  bool        `codec:"primary"`
	ReadOnly bool        `codec:"read_only"`
	Size     string      `codec:"size"`
	Sparse   *bool       `codec:"sparse"`
	Volume   string      `codec:"volume"`
	Source   *DiskSource `codec:"source"`
}

// DiskSource is the block source of a disk: what is on it at first.
type DiskSource struct {
	Format    string `codec:"format"`
	Image     string `codec:"image"`
	Overwrite bool   `codec:"overwrite"`
	Volume    string `codec:"volume"`
}

// taskConfigSpec is the schema of TaskConfig.
var taskConfigSpec = hclspec.NewObject(map[string]*hclspec.Spec{
	"cmds":                            hclspec.NewAttr("cmds", "list(string)", false),
	"default_user_authorized_ssh_key": hclspec.NewAttr("default_user_authorized_ssh_key", "string", false),
	"default_user_password":           hclspec.NewAttr("default_user_password", "string", false),
	"hostname":                        hclspec.NewAttr("hostname", "string", false),
	"user_data":                       hclspec.NewAttr("user_data", "string", false),
	"timezone":                        hclspec.NewAttr("timezone", "string", false),
	"mounts":                          hclspec.NewAttr("mounts", "string", false),
	"vcpus":                           hclspec.NewAttr("vcpus", "number", false),
	"os": hclspec.NewBlock("os", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"arch":    hclspec.NewAttr("arch", "string", false),
		"machine": hclspec.NewAttr("machine", "string", false),
	})),
	"network_interface": hclspec.NewBlockList("network_interface", hclspec.NewObject(map[string]*hclspec.Spec{
		"mac": hclspec.NewAttr("mac", "string", false),
		"bridge": hclspec.NewBlock("bridge", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"name":    hclspec.NewAttr("name", "string", false),
			"ports":   hclspec.NewAttr("ports", "list(string)", false),
			"address": hclspec.NewAttr("address", "string", false),
			"gateway": hclspec.NewAttr("gateway", "string", false),
			"dns":     hclspec.NewAttr("dns", "list(string)", false),
		})),
		"macvtap": hclspec.NewBlock("macvtap", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"device": hclspec.NewAttr("device", "string", false),
			"mode":   hclspec.NewAttr("mode", "string", false),
		})),
	})),
	"disk": hclspec.NewBlockList("disk", hclspec.NewObject(map[string]*hclspec.Spec{
		"bus_type":  hclspec.NewAttr("bus_type", "string", false),
		"chained":   hclspec.NewAttr("chained", "bool", false),
		"devname":   hclspec.NewAttr("devname", "string", false),
		"driver":    hclspec.NewAttr("driver", "string", false),
		"format":    hclspec.NewAttr("format", "string", false),
		"keep":      hclspec.NewAttr("keep", "string", false),
		"kind":      hclspec.NewAttr("kind", "string", false),
		"pool":      hclspec.NewAttr("pool", "string", false),
		"primary":   hclspec.NewAttr("primary", "bool", false),
		"read_only": hclspec.NewAttr("read_only", "bool", false),
		"size":      hclspec.NewAttr("size", "string", false),
		"sparse":    hclspec.NewAttr("sparse", "bool", false),
		"volume":    hclspec.NewAttr("volume", "string", false),
		"source": hclspec.NewBlock("source", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"format":    hclspec.NewAttr("format", "string", false),
			"image":     hclspec.NewAttr("image", "string", false),
			"overwrite": hclspec.NewAttr("overwrite", "bool", false),
			"volume":    hclspec.NewAttr("volume", "string", false),
		})),
	})),
	"image":             hclspec.NewAttr("image", "string", false),
	"primary_disk_size": hclspec.NewAttr("primary_disk_size", "number", false),
	"use_thin_copy":     hclspec.NewAttr("use_thin_copy", "bool", false),
})

// indexed and labelled write the path of a block among its like, as errors
// name it.
func indexed(path string, i int) string  { return fmt.Sprintf("%s[%d]", path, i) }
func labelled(path, label string) string { return fmt.Sprintf("%s %q", path, label) }
