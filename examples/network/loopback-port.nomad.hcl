# A port that answers on 127.0.0.1 of the host alone. The client's configuration has
# to have such a network:
#
#     host_network "loopback" {
#       cidr      = "127.0.0.0/8"
#       interface = "lo"
#     }
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/network/loopback-port.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "loopback-port" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to           = 8000
        host_network = "loopback"
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "hostname > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        disk {
          chained = true
          source {
            image = var.image
          }
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
