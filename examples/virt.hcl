# The virt driver in the configuration of a Nomad client, beside what that has
# already: copy this to /etc/nomad.d/, and restart the client.

# It holds nomad-driver-virt, and replaces any other: where the client has plugins
# already, leave this line out, and link the driver beside them.
plugin_dir = "/opt/nomad/plugins"

client {
  enabled = true

  # The most that a task's kill_timeout may be. Nomad's default of 30 s is short
  # for a guest that shuts down.
  max_kill_timeout = "3m"
}

plugin "nomad-driver-virt" {
  config {
    image_paths = ["/var/lib/virt/images"]

    storage_pools {
      directory "local" {
        path = "/var/lib/virt/storage"
      }
    }
  }
}
