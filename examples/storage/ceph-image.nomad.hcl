# A disk in a Ceph pool that is a whole copy of an image. The pool "ceph" is one of the plugin's storage_pools.
# Disks in Ceph are raw, and take room as the guest writes.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/ceph-image.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "ceph-image" {
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
          pool = "ceph"
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
