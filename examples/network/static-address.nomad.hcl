# A guest that has an address of the job's choice on libvirt's network, which no
# other machine gets from then on. It takes an image that is set up by cloud-init.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/network/static-address.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "static-address" {
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
          "{ ip -4 address show; ip route show; } > /run/index.html",
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
            name    = "virbr0"
            address = "192.168.122.50/24"
            gateway = "192.168.122.1"
            dns     = ["192.168.122.1"]
            ports   = ["http"]
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
