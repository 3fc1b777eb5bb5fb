# The volume of volume-boot.nomad.hcl, booted again by a job that names no image:
# it boots from what is there. Its page /starts has the lines of that job, too.
job "volume-boot-again" {
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
          "httpd -p 8000 -h /mnt",
        ]

        disk {
          volume = "/dev/vda"
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
        memory = 256
      }
    }
  }
}
