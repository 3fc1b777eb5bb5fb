# The Python web server of python.nomad.hcl with an image that Nomad fetches into
# the allocation: the host needs no image_paths for it.
variable "image_url" {
  type    = string
  default = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-genericcloud-amd64.qcow2"
}

job "python-artifact" {
  group "virt-group" {
    # The image is fetched once per allocation, and stays as long as that does.
    ephemeral_disk {
      size = 1000
    }

    network {
      mode = "host"
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      artifact {
        source      = var.image_url
        destination = "local/debian-12.qcow2"
        mode        = "file"
      }

      template {
        data        = "hello from the allocation\n"
        destination = "local/index.html"
      }

      config {
        default_user_password = "password"
        cmds                  = ["python3 -m http.server 8000 -d /local"]

        disk {
          size = "10GiB"
          source {
            image = "local/debian-12.qcow2"
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
