# A disk that is an overlay of a base which holds the image: it takes of the host
# what the VM writes, and is there at once when the base is. The first VM of the
# pool that has the image makes the base.
job "directory-chained" {
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
          chained = true
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
