# A service of Nomad's own, which is registered with the host's address and
# published port, and whose check asks the guest for its page; and another that is
# registered with the guest's own address, for who is on its network.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/network/service.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "service" {
  group "virt-group" {
    service {
      name     = "virt-web"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/"
        interval = "5s"
        timeout  = "2s"
      }
    }

    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      service {
        name         = "virt-web-guest"
        provider     = "nomad"
        port         = 8000
        address_mode = "driver"
      }

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
