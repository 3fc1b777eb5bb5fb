# A disk without a format: every byte of it has its place on the host from the
# beginning, so that a guest never waits for room.
job "directory-raw" {
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
          "httpd -p 8000 -h /run",
        ]

        disk {
          format = "raw"
          source {
            image = "tiny.qcow2"
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
        memory = 256
      }
    }
  }
}
