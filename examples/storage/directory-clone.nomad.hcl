# A disk that is a copy of a volume which is in the pool already, and made larger.
# An operator puts the volume there, out of any image:
#
#     virsh vol-create-as local golden.qcow2 1GiB --format qcow2
#     virsh vol-upload --pool local golden.qcow2 tiny.qcow2
#
# The volume itself is left alone, also when the job ends. The size is to be larger
# than the image's own, of which qemu-img info tells; with a larger image than the
# small guest of the project's lab:
#
#     nomad job run -var size=10GiB examples/storage/directory-clone.nomad.hcl
variable "size" {
  type    = string
  default = "1GiB"
}

job "directory-clone" {
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
          size = var.size
          source {
            volume = "golden.qcow2"
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
