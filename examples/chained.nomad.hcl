# The Python web server of python.nomad.hcl on a chained disk: an overlay of a
# base that holds the image. The base is made by the first VM that needs it, and
# shared by all VMs of the pool that have the same image, so that the next one
# starts without a copy.
job "python-chained" {
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

      template {
        data        = "hello from the allocation\n"
        destination = "local/index.html"
      }

      config {
        default_user_password = "password"
        cmds                  = ["python3 -m http.server 8000 -d /local"]

        disk {
          size    = "10GiB"
          chained = true
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
