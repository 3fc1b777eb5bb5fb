// nomad-driver-virt is a Nomad task driver plugin that runs virtual machines
// with libvirt and QEMU.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins"
	"github.com/hashicorp/nomad/plugins/base"

	"nomad-driver-virt/driver"
)

// Stamped by the Makefile.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
	date    = "unknown"
)

const help = `nomad-driver-virt is a Nomad task driver: it runs virtual machines with libvirt and QEMU.

It is not run by hand. To install it:

  1. Copy this file into the plugin_dir of Nomad's configuration,
     /opt/nomad/plugins for one.
  2. Tell the Nomad client about it:

       plugin "nomad-driver-virt" {
         config {
           image_paths = ["/var/lib/virt/images"]
         }
       }

  3. Restart the Nomad client, and see that it is healthy:

       nomad node status -self -verbose

Usage:

  nomad-driver-virt --version    say which version this is
  nomad-driver-virt --help       say this
`

func main() {
	// Nomad sets the cookie, and passes no arguments.
	if os.Getenv(base.Handshake.MagicCookieKey) == base.Handshake.MagicCookieValue {
		plugins.ServeCtx(func(ctx context.Context, logger hclog.Logger) any {
			return driver.New(ctx, version, logger)
		})
		return
	}
	os.Exit(byHand(os.Args[1:], os.Stdout, os.Stderr))
}

// byHand answers a person, and returns the exit status.
func byHand(args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprint(stderr, help)
		return 2
	}
	switch args[0] {
	case "--version", "-version", "version":
		fmt.Fprintf(stdout, "nomad-driver-virt %s (commit %s, built %s)\n", version, commit, date)
	case "--help", "-help", "-h", "help":
		fmt.Fprint(stdout, help)
	default:
		fmt.Fprintf(stderr, "nomad-driver-virt: %q is not known\n\n%s", args[0], help)
		return 2
	}
	return 0
}
