# A block device, for volume-boot.nomad.hcl and volume-boot-again.nomad.hcl.
# The plugin is one of yours that makes block devices, of LVM for one: this one is
# of the project's lab, and takes loop devices. So is the size, for the small guest:
# a device has to hold the image's virtual size, of which qemu-img info tells, and
# cloud images have gigabytes. 10GiB is room for Debian's.
name      = "boot"
type      = "host"
plugin_id = "loop-device"

capacity_min = "64MiB"
capacity_max = "64MiB"

capability {
  access_mode     = "single-node-single-writer"
  attachment_mode = "block-device"
}
