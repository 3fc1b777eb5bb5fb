# A Debian guest with a time zone, and its SSH port. The image is a file in one of the plugin's
# image_paths. With a key of yours:
#
#   nomad job run -var "ssh_key=$(cat ~/.ssh/id_ed25519.pub)" examples/job.nomad.hcl
variable "ssh_key" {
  type    = string
  default = ""
}

job "virt-example" {
  group "virt-group" {
    network {
      mode = "host"
      port "ssh" {
        to = 22
      }
    }

    task "virt-task" {
      driver       = "virt"
      kill_timeout = "1m"

      config {
        hostname                        = "virt-example"
        timezone                        = "Europe/Vienna"
        default_user_password           = "password" # for virsh console
        default_user_authorized_ssh_key = var.ssh_key

        disk {
          size = "10GiB"
          source {
            image = "debian-12.qcow2"
          }
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["ssh"]
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
