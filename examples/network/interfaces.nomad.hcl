# A guest with two interfaces: one on libvirt's network, by which its port is
# published, and one beside a network device of the host, on the network that this
# one is on, where the guest is a machine of its own. There it asks for an address
# by DHCP, and goes on without one.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/network/interfaces.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

# The host's network device, of which ip link tells.
variable "device" {
  type    = string
  default = "eth0"
}

job "interfaces" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "ip link show > /run/index.html",
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

        network_interface {
          mac = "52:54:00:00:07:01"
          macvtap {
            device = var.device
            mode   = "bridge"
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
