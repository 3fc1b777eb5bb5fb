# A job with mistakes, each of which a start would be refused for.
job "python-server" {
  group "virt-group" {
    network {
      port "http" {
        to = 8000
      }
    }

    task "virt-task" {
      driver = "virt"

      config {
        hostname = "python_server"

        disk {
          size    = "10 gigs"
          chained = true
          format  = "raw"
          source {
            image = "debian-12.qcow2"
          }
        }

        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["www"]
          }
        }
      }
    }
  }
}
