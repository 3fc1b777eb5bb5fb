# The lab's Nomad server. It is an agent of its own, which runs before the client
# starts: a client that registers while its server's keyring is being made waits
# for half a minute before it tries again.
name      = "@NAME@"
data_dir  = "/run/lab/nomad/server"
bind_addr = "10.99.0.2"

disable_update_check = true

ports {
  http = 4656 # the client's is the one to talk to
}

server {
  enabled          = true
  bootstrap_expect = 1

  default_scheduler_config {
    memory_oversubscription_enabled = true # or Nomad ignores memory_max
  }
}
