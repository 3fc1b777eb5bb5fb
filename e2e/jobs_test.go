//go:build e2e

package e2e

import (
	"bytes"
	"testing"
	"text/template"
)

// guest describes a job of one task, for what tests vary.
type guest struct {
	Name        string // of the job; the task is vm-task
	Type        string // of the job, default service
	Task        string // default vm-task
	Image       string // default tiny.qcow2; "none" makes an empty disk
	Copy        bool   // copies the image; otherwise the disk is chained
	Cmds        []string
	Config      string // more of the task's config block
	More        string // more of the task block
	HostNetwork string // that the port is published on
	KillTimeout string // default 60s
	Restart     string // the group's restart block, default none
	Memory      int    // MiB, default 256
}

var guestJob = template.Must(template.New("job").Parse(`
job "{{ .Name }}" {
  type = "{{ .Type }}"
  group "group" {
    reschedule {
      attempts  = 0
      unlimited = false
    }
    {{ .Restart }}
    network {
      mode = "host"
      port "http" {
        to = 8000
        {{ with .HostNetwork }}host_network = "{{ . }}"{{ end }}
      }
    }
    task {{ printf "%q" .Task }} {
      driver       = "virt"
      kill_timeout = "{{ .KillTimeout }}"
      template {
        data        = "hello from the allocation\n"
        destination = "local/index.html"
      }
      {{ .More }}
      config {
        cmds = [{{ range .Cmds }}
          {{ printf "%q" . }},{{ end }}
        ]
        disk {
          {{ if eq .Image "none" }}size = "1MiB"{{ else }}
          chained = {{ not .Copy }}
          source {
            image = "{{ .Image }}"
          }{{ end }}
        }
        network_interface {
          bridge {
            name  = "virbr0"
            ports = ["http"]
          }
        }
        {{ .Config }}
      }
      resources {
        cores  = 1
        memory = {{ .Memory }}
      }
    }
  }
}
`))

// serveLocal has the small guest serve what the allocation holds.
const serveLocal = "httpd -p 8000 -h /local"

func (g guest) hcl(t *testing.T) string {
	t.Helper()
	fill := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	fill(&g.Type, "service")
	fill(&g.Task, "vm-task")
	fill(&g.Image, "tiny.qcow2")
	fill(&g.KillTimeout, "60s")
	fill(&g.Restart, "restart {\n attempts = 0\n mode = \"fail\"\n }")
	if g.Memory == 0 {
		g.Memory = 256
	}
	var b bytes.Buffer
	if err := guestJob.Execute(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (g guest) submit(t *testing.T) *job {
	t.Helper()
	return submit(t, g.Name, g.hcl(t))
}
