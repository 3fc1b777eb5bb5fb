# Two VMs whose disks are overlays of one base. The base is made once, whichever
# of them comes first, and neither sees what the other one writes.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/storage/directory-two-tasks.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "directory-two-tasks" {
  group "virt-group" {
    network {
      mode = "host"
      port "blue" {
        to = 8000
      }
      port "green" {
        to = 8000
      }
    }

    task "blue-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "lsblk > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
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
            ports = ["blue"]
          }
        }
      }

      resources {
        cores  = 1
        memory = 512
      }
    }

    task "green-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "lsblk > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
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
            ports = ["green"]
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
