# A Nomad server for trying the driver on one machine, with the client of
# client.nomad.hcl. It is an agent configuration, not a job, and takes the port 4646:
# a Nomad that runs there already has to be stopped first.
#
#   nomad agent -config=examples/server.nomad.hcl
name      = "server"
data_dir  = "/opt/nomad/server"
bind_addr = "127.0.0.1"

advertise {
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}

server {
  enabled          = true
  bootstrap_expect = 1
}
