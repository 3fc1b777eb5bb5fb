# Two VMs whose disks are overlays of one base. The base is made once, whichever
# of them comes first, and neither sees what the other one writes.
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
          "httpd -p 8000 -h /run",
        ]

        disk {
          chained = true
          source {
            image = "tiny.qcow2"
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
        memory = 256
      }
    }

    task "green-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "lsblk > /run/index.html",
          "httpd -p 8000 -h /run",
        ]

        disk {
          chained = true
          source {
            image = "tiny.qcow2"
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
        memory = 256
      }
    }
  }
}
