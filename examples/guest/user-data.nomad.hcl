# User data of the job's own, which a template writes: a cloud-config with the
# allocation's values in it. It is merged with what the driver tells cloud-init.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/guest/user-data.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "user-data" {
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
        destination = "local/user-data.yaml"
        data        = <<-EOT
          #cloud-config
          write_files:
            - path: /run/index.html
              content: |
                written for allocation {{ env "NOMAD_SHORT_ALLOC_ID" }}
          runcmd:
            - echo "and by its commands" >> /run/index.html
        EOT
      }

      config {
        cmds = [
          "httpd -p 8000 -h /run || python3 -m http.server 8000 -d /run",
        ]

        user_data = "local/user-data.yaml"

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
