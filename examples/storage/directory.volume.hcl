# A directory, made by the plugin that every Nomad client has. See
# volume-directory.nomad.hcl.
name      = "directory"
type      = "host"
plugin_id = "mkdir"

capability {
  access_mode     = "single-node-single-writer"
  attachment_mode = "file-system"
}
