# A disk in a Ceph pool that is larger than its image: the rest of it takes no room
# until the guest writes there.
job "ceph-grown" {
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
          pool = "ceph"
          size = "40GiB"
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
