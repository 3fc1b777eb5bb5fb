# A disk that is a whole copy of an image, in the default pool, which is a
# directory. It takes no more of the host than is in the image, and is as large as
# the image says.
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
          "httpd -p 8000 -h /run",
        ]

        disk {
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
