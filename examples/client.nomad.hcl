# A Nomad client with the virt driver, beside the server of server.nomad.hcl on
# the same machine. It is an agent configuration, not a job, and needs root:
#
#   nomad agent -config=examples/client.nomad.hcl
#
# It answers on a port of its own:
#
#   nomad node status -self -address=http://127.0.0.1:5656
name       = "client"
data_dir   = "/opt/nomad/client"
plugin_dir = "/opt/nomad/plugins" # holds nomad-driver-virt
bind_addr  = "127.0.0.1"

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

ports {
  http = 5656 # 4646 is the server's
}

client {
  enabled = true
  servers = ["127.0.0.1:4647"]

  # The most that a task's kill_timeout may be. Nomad's default of 30 s is short
  # for a guest that shuts down.
  max_kill_timeout = "3m"
}

plugin "nomad-driver-virt" {
  config {
    image_paths     = ["/var/lib/virt/images"]
    user_data_paths = ["/var/lib/virt/user-data"]

    storage_pools {
      directory "local" {
        path = "/var/lib/virt/storage"
      }
    }
  }
}
