# A block device of the host as a second disk, which outlasts the VM and the job: a
# dynamic host volume, made by
#
#     nomad volume create examples/storage/disk.volume.hcl
#
# Its destination is what the disk says as its volume, and the name that it has in
# the guest. The guest puts a file system on it when it has none, adds a line to a
# file at each start, and serves it as /starts.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/volume-disk.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "volume-disk" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    volume "data" {
      type            = "host"
      source          = "disk"
      access_mode     = "single-node-single-writer"
      attachment_mode = "block-device"
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      volume_mount {
        volume      = "data"
        destination = "/dev/vdb"
      }

      config {
        cmds = [
          "mount /dev/vdb /mnt || { mke2fs /dev/vdb && mount /dev/vdb /mnt; }",
          "hostname >> /mnt/starts",
          "httpd -p 8000 -h /mnt || python3 -m http.server 8000 -d /mnt",
        ]

        disk {
          primary = true
          chained = true
          source {
            image = var.image
          }
        }

        disk {
          volume = "/dev/vdb"
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
