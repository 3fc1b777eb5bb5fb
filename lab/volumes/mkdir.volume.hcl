# A directory: nomad volume create lab/volumes/mkdir.volume.hcl
type      = "host"
name      = "directory"
plugin_id = "mkdir"

capability {
  access_mode     = "single-node-writer"
  attachment_mode = "file-system"
}
