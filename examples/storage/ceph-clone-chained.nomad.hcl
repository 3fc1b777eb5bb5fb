# A disk that is chained on an image which is in the Ceph pool already. An operator
# puts it there, out of any image file:
#
#     qemu-img convert -O raw tiny.qcow2 rbd:nomad-pool/golden:id=nomad
#
# In Ceph that is a clone, as without chained: the attribute is there for job files
# that a directory pool is to run as well.
job "ceph-clone-chained" {
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
          pool    = "ceph"
          chained = true
          source {
            volume = "golden"
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
