package driver

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// What the driver's betas called things is taken still, and translated here
// and nowhere else: into what it is called today, with a warning that says so.

// betaDriver is what jobs of the first beta call the driver. Nomad looks for nodes that
// have it, so that this one is never asked: there is nothing to translate.
const betaDriver = pluginBlock

// betaPool is the pool that data_dir made.
const betaPool = "virt-sp"

// translate returns the configuration with the betas' attributes replaced by
// today's, and a warning for each. It is called before defaults are filled in.
// An attribute of today that says the same thing wins.
func (c Config) translate() (Config, []string) {
	var warnings []string
	if e := c.Emulator; e != nil {
		uri := e.URI
		if uri == "" {
			uri = defaultURI
		}
		warnings = append(warnings, fmt.Sprintf(
			"emulator is an old name: write provider \"libvirt\" { uri = %q }, with user and password if they are needed", uri))
		if c.Provider == nil || c.Provider.Libvirt == nil {
			c.Provider = &Provider{Libvirt: &Libvirt{URI: e.URI, User: e.User, Password: e.Password}}
		}
		c.Emulator = nil
	}
	if c.DataDir != "" {
		path := filepath.Join(c.DataDir, betaPool)
		warnings = append(warnings, fmt.Sprintf(
			"data_dir is an old name: write storage_pools { directory %q { path = %q } }", betaPool, path))
		pools := StoragePools{}
		if c.StoragePools != nil {
			pools = *c.StoragePools
		}
		if len(pools.Directory)+len(pools.Ceph) == 0 {
			pools.Directory = map[string]DirectoryPool{betaPool: {Path: path}}
		}
		c.StoragePools, c.DataDir = &pools, ""
	}
	if c.Provider != nil && c.Provider.Libvirt != nil && c.Provider.Libvirt.AllowInsecureReadonlyMounts {
		warnings = append(warnings, "provider.libvirt.allow_insecure_readonly_mounts has no effect: "+
			"the allocation's directories are read-only by the host's doing; leave it out")
	}
	return c, warnings
}

// translate returns the task's configuration with the betas' attributes
// replaced by today's, and a warning for each.
func (c TaskConfig) translate() (TaskConfig, []string, error) {
	if c.Image == "" && c.PrimaryDiskSize == 0 && !c.UseThinCopy {
		return c, nil, nil
	}
	if len(c.Disks) > 0 {
		return c, nil, fmt.Errorf("config: image, primary_disk_size and use_thin_copy are old names for what " +
			"a disk block says, and there is one: leave them out")
	}
	disk := Disk{Primary: true, Chained: c.UseThinCopy, Source: &DiskSource{Image: c.Image}}
	var holds []string
	if c.PrimaryDiskSize != 0 {
		disk.Size = fmt.Sprintf("%dMiB", c.PrimaryDiskSize)
		holds = append(holds, fmt.Sprintf("size = %q", disk.Size))
	}
	if c.UseThinCopy {
		holds = append(holds, "chained = true")
	}
	image := c.Image
	c.Disks = []Disk{disk}
	c.Image, c.PrimaryDiskSize, c.UseThinCopy = "", 0, false
	with := ""
	if len(holds) > 0 {
		with = " with " + strings.Join(holds, " and ")
	}
	return c, []string{"image, primary_disk_size and use_thin_copy are old names: write a block disk" + with +
		", and in it a block source with image = " + strconv.Quote(image)}, nil
}
