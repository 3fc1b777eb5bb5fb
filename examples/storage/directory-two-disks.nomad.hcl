# A VM with a second, empty disk, which is in another pool. The guest puts a file
# system on it and serves that. The pool "small" is one of the storage_pools of the
# project's lab: name one of yours, or leave pool out.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/directory-two-disks.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "directory-two-disks" {
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
          "mke2fs /dev/vdb && mount /dev/vdb /mnt",
          "lsblk > /mnt/index.html",
          "httpd -p 8000 -h /mnt || python3 -m http.server 8000 -d /mnt",
        ]

        disk {
          primary = true
          source {
            image = var.image
          }
        }

        disk {
          size    = "100MiB"
          pool    = "small"
          devname = "vdb"
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
