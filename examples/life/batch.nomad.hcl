# A batch job: the guest does its work, tells the result on its console, which is
# the task's log, and powers itself off. That is exit code 0, and completes the job.
#
# The image is the small guest of the project's lab. With one of yours:
#
#     nomad job run -var image=debian-12.qcow2 examples/life/batch.nomad.hcl
variable "image" {
  type    = string
  default = "tiny.qcow2"
}

job "batch" {
  type = "batch"

  group "virt-group" {
    task "virt-task" {
      driver       = "virt"
      kill_timeout = "30s"

      config {
        cmds = [
          "echo \"the sum is $((40 + 2))\" > /dev/console",
          "systemctl poweroff || poweroff -f",
        ]

        disk {
          chained = true
          source {
            image = var.image
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
