# Disks of several kinds on a machine of type q35: the one that boots is on virtio, and
# kept for an hour after the task, to be looked into; one on SCSI, which the guest
# cannot write to, has the bytes of a file that a template makes; and a CD-ROM shows
# the content of an image.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/directory-kinds.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "directory-kinds" {
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

      template {
        destination = "local/note.img"
        data        = "a note on a disk\n"
      }

      config {
        cmds = [
          "{ lsblk; head -n 1 /dev/sda; } > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        os {
          machine = "q35"
        }

        disk {
          primary = true
          chained = true
          keep    = "1h"
          source {
            image = var.image
          }
        }

        disk {
          bus_type  = "scsi"
          read_only = true
          source {
            image  = "local/note.img"
            format = "raw"
          }
        }

        disk {
          kind = "cdrom"
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
