# A guest that is asked to shut down when the job is stopped, and given two minutes
# for that before its VM is destroyed. The client's max_kill_timeout bounds
# kill_timeout. A guest that powers itself off is started again by the task's
# restart block. To pause it, and to have it go on:
#
#     nomad alloc signal -s SIGSTOP ALLOC
#     nomad alloc signal -s SIGCONT ALLOC
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/life/stop.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "stop" {
  group "virt-group" {
    restart {
      attempts = 3
      delay    = "2s"
      interval = "10m"
      mode     = "fail"
    }

    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "2m"

      config {
        cmds = [
          "hostname > /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        disk {
          chained = true
          source {
            image = var.image
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
        cpu    = 500
        memory = 512
      }
    }
  }
}
