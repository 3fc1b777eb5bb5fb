# The lab's Nomad client, which runs the driver; /run/lab is the lab's state folder.
name       = "@NAME@"
data_dir   = "/run/lab/nomad/client"
plugin_dir = "@PLUGIN_DIR@"
bind_addr  = "10.99.0.2"
log_level  = "DEBUG"

disable_update_check = true

ui {
  show_cli_hints = false
}

client {
  enabled           = true
  network_interface = "uplink"
  servers           = ["10.99.0.2:4647"]
  cgroup_parent     = "@NAME@.slice"

  # A guest needs longer to shut down than the 30 s that Nomad allows at most.
  max_kill_timeout = "3m"

  # The plugins for host volumes: loop-device, and Nomad's own mkdir. Loop devices are
  # the machine's: the path of one's file tells which lab it is of.
  host_volume_plugin_dir = "/run/lab/volume-plugins"
  host_volumes_dir       = "/run/lab/nomad/volumes-of-@NAME@"

  host_volume "static" {
    path = "/var/lib/virt/static"
  }

  host_network "loopback" {
    cidr      = "127.0.0.0/8"
    interface = "lo"
  }

  host_network "ipv6" {
    cidr = "fd99::/64"
  }

  options = {
    # The cloud probes wait 20 s for an answer that cannot come.
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,vault,cni"
    "driver.allowlist"     = "nomad-driver-virt,virt,raw_exec"
  }
}

# Without this Nomad does not ask a driver for statistics of tasks.
telemetry {
  publish_allocation_metrics = true
  collection_interval        = "1s"
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}

plugin "nomad-driver-virt" {
  config {
    image_paths     = ["/var/lib/virt/images"]
    user_data_paths = ["/var/lib/virt/user-data"]
    storage_pools {
      default = "local"
      directory "local" {
        path = "/var/lib/virt/storage"
      }
      # On a file system of 256 MiB.
      directory "small" {
        path = "/var/lib/virt/small/pool"
      }
      # The driver is unhealthy where a pool is out of reach: ceph-start and
      # ceph-stop turn the mark of these lines into another sort of comment.
#ceph#      ceph "ceph" {
#ceph#        pool  = "nomad-pool"
#ceph#        hosts = ["10.99.0.2:3300", "[fd99::2]:3300"]
#ceph#        authentication {
#ceph#          username = "nomad"
#ceph#          secret   = "@CEPH_KEY@"
#ceph#        }
#ceph#      }
    }
  }
}
