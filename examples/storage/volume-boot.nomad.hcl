# A block device of the host as the disk to boot from: a dynamic host volume, made by
#
#     nomad volume create examples/storage/boot.volume.hcl
#
# The image is written to it while it is blank. A device that holds data already is
# left as it is: another job with the same image finds what this one left. The
# guest adds a line to a file at each start, and serves it as /starts. To begin with
# the image again, and lose what is there:
#
#     nomad job run -var overwrite=true examples/storage/volume-boot.nomad.hcl
#
# The image is the small guest of the project's lab. With one of yours, for which
# boot.volume.hcl has to be made larger:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/volume-boot.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

variable "overwrite" {
  type    = bool
  default = false
}

job "volume-boot" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    volume "data" {
      type            = "host"
      source          = "boot"
      access_mode     = "single-node-single-writer"
      attachment_mode = "block-device"
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      volume_mount {
        volume      = "data"
        destination = "/dev/vda"
      }

      config {
        cmds = [
          "mount /dev/vda1 /mnt && hostname >> /mnt/starts",
          "httpd -p 8000 -h /mnt || python3 -m http.server 8000 -d /mnt",
        ]

        disk {
          volume = "/dev/vda"
          source {
            image     = var.image
            overwrite = var.overwrite
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
