# A disk that is larger than its image. The cloud-init of most distributions makes
# the root file system as large as the disk when it boots; the page shows both.
job "directory-grown" {
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
          "mkdir /run/www && cd /run/www",
          "lsblk > index.html; df -h / >> index.html",
          "python3 -m http.server 8000",
        ]

        disk {
          size = "40GiB"
          source {
            image = "debian-12.qcow2"
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
        memory = 1024
      }
    }
  }
}
