# A guest for ARM on a host of another architecture. QEMU emulates it, which takes
# qemu-system-arm and qemu-efi-aarch64 on the host.
#
# The image is the small guest of the project's lab. With one of yours, which has to
# be for ARM, as debian-12-genericcloud-arm64.qcow2 is:
#
#     nomad job run -var image=debian-12-genericcloud-arm64.qcow2 examples/guest/aarch64.nomad.hcl
variable "image" {
  type    = string
  default = "tiny-arm64.qcow2"
}

job "aarch64" {
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

      constraint {
        attribute = "${attr.driver.virt.arch.aarch64}"
        operator  = "is_set"
      }

      config {
        cmds = [
          "uname -m > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        os {
          arch = "aarch64"
        }

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
        cpu    = 500
        memory = 512
      }
    }
  }
}
