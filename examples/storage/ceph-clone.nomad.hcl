# A disk that is a clone of an image which is in the Ceph pool already, and made
# larger. An operator puts it there, out of any image file:
#
#     qemu-img convert -O raw tiny.qcow2 rbd:nomad-pool/golden:id=nomad
#
# It is left alone, but cannot be removed while there are clones of it. The size is
# to be larger than the image's own, of which qemu-img info tells; with a larger
# image than the small guest of the project's lab:
#
#     nomad job run -var size=10GiB examples/storage/ceph-clone.nomad.hcl
variable "size" {
  type    = string
  default = "1GiB"
}

job "ceph-clone" {
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
          size = var.size
          source {
            volume = "golden"
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
