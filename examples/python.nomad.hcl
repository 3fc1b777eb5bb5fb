# A Python web server in a Debian guest. It serves a page that the job's own
# template wrote into the allocation, which the guest sees under /local.
job "python-server" {
  group "virt-group" {
    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver = "virt"

      template {
        data        = "hello from the allocation\n"
        destination = "local/index.html"
      }

      # A guest takes longer to shut down than a process. The client's
      # max_kill_timeout bounds this.
      kill_timeout = "30s"

      config {
        default_user_password = "password"
        cmds                  = ["python3 -m http.server 8000 -d /local"]

        disk {
          size = "10GiB"
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
