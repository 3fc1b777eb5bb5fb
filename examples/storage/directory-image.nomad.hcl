# A disk that is a whole copy of an image, in the default pool, which is a
# directory. It takes no more of the host than is in the image, and is as large as
# the image says.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/directory-image.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "directory-image" {
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
