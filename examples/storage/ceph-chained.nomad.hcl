# A disk in a Ceph pool that is a copy-on-write clone of a base which holds the
# image. The first VM that has the image makes the base, on whichever host of the
# cluster; from then on a disk is there at once.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/ceph-chained.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "ceph-chained" {
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
          "lsblk > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        disk {
          pool    = "ceph"
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
        cores  = 1
        memory = 512
      }
    }
  }
}
