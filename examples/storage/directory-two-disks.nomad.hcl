# A VM with a second, empty disk, which is in another pool. The guest puts a file
# system on it and serves that.
job "directory-two-disks" {
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
          "mke2fs /dev/vdb && mount /dev/vdb /mnt",
          "lsblk > /mnt/index.html",
          "httpd -p 8000 -h /mnt",
        ]

        disk {
          primary = true
          source {
            image = "tiny.qcow2"
          }
        }

        disk {
          size = "100MiB"
          pool = "small"
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
