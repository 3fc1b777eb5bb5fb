# A disk that is an overlay of a volume which is in the pool already. An operator
# puts the volume there, out of any image:
#
#     virsh vol-create-as local golden.qcow2 1GiB --format qcow2
#     virsh vol-upload --pool local golden.qcow2 tiny.qcow2
#
# The volume is to stay as it is for as long as there are overlays of it.
job "directory-clone-chained" {
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
          chained = true
          source {
            volume = "golden.qcow2"
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
