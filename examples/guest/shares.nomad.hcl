# A guest without reserved cores: two vCPUs, which run where the host has time, and
# weigh as much as cpu says when it has little. Its memory may grow to memory_max
# when it needs that, if the scheduler allows memory oversubscription.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/guest/shares.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "shares" {
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
          "{ nproc; grep MemTotal /proc/meminfo; } > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        vcpus = 2

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
        cpu        = 500
        memory     = 384
        memory_max = 512
      }
    }
  }
}
