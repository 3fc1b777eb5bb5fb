# The task's environment and its secrets in the guest. What env and templates set is
# there for commands, in login shells, and for units of systemd that have
# EnvironmentFile=/etc/nomad-virt/environment. What lies in the task's secrets
# directory is below /secrets; mounts says by what the guest sees it. virtiofs takes
# virtiofsd on the host, and is taken where that is if mounts is left out.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/guest/environment.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "environment" {
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

      env {
        GREETING = "hello $USER, this is 'quoted'"
      }

      template {
        destination = "secrets/app.env"
        env         = true
        data        = "API_TOKEN=not-for-everybody\n"
      }

      config {
        cmds = [
          "echo \"$GREETING\" > /run/index.html",
          "echo \"the token has $(printf %s \"$API_TOKEN\" | wc -c) characters\" >> /run/index.html",
          "grep -c API_TOKEN /secrets/app.env >> /run/index.html",
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        mounts = "virtiofs"

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
