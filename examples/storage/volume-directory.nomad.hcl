# A directory of the host that the guest writes to, and that outlasts the VM and
# the job: a dynamic host volume, made by
#
#     nomad volume create examples/storage/directory.volume.hcl
#
# The guest adds a line to a file at each start, and serves it as /starts.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/volume-directory.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "volume-directory" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    volume "data" {
      type            = "host"
      source          = "directory"
      access_mode     = "single-node-single-writer"
      attachment_mode = "file-system"
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      volume_mount {
        volume      = "data"
        destination = "/srv/data"
      }

      config {
        cmds = [
          "hostname >> /srv/data/starts",
          "httpd -p 8000 -h /srv/data || python3 -m http.server 8000 -d /srv/data",
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
        cores  = 1
        memory = 512
      }
    }
  }
}
