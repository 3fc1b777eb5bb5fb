# A block device of 200 MiB: nomad volume create lab/volumes/loop.volume.hcl
type      = "host"
name      = "loop"
plugin_id = "loop-device"

capacity_min = "200MiB"
capacity_max = "200MiB"

capability {
  access_mode     = "single-node-writer"
  attachment_mode = "block-device"
}
