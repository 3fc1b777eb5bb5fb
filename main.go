// nomad-driver-virt is a Nomad task driver plugin that runs virtual machines
// with libvirt and QEMU.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/plugins"
	"github.com/hashicorp/nomad/plugins/base"

	"nomad-driver-virt/cli"
	"nomad-driver-virt/driver"
)

// Stamped by the Makefile.
var (
	version = "0.0.0-dev"
	commit  = "unknown"
	date    = "unknown"
)

var help = `nomad-driver-virt is a Nomad task driver: it runs virtual machines with libvirt and QEMU.

Nomad runs it. To install it:

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

By hand:

` + cli.List() + `  nomad-driver-virt -version     say which version this is
  nomad-driver-virt -help        say this

Each command says more with -help.
`

func main() {
	// Nomad sets the cookie, and passes no arguments.
	if os.Getenv(base.Handshake.MagicCookieKey) == base.Handshake.MagicCookieValue {
		plugins.ServeCtx(func(ctx context.Context, logger hclog.Logger) any {
			return driver.New(ctx, version, logger)
		})
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := byHand(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(status)
}

// byHand answers a person, and returns the exit status.
func byHand(ctx context.Context, args []string, s cli.Streams) int {
	if len(args) > 0 && cli.Is(args[0]) {
		return cli.Run(ctx, s, args[0], args[1:])
	}
	if len(args) != 1 {
		fmt.Fprint(s.Err, help)
		return 2
	}
	switch args[0] {
	case "--version", "-version", "version":
		fmt.Fprintf(s.Out, "nomad-driver-virt %s (commit %s, built %s)\n", version, commit, date)
	case "--help", "-help", "-h", "help":
		fmt.Fprint(s.Out, help)
	default:
		fmt.Fprintf(s.Err, "nomad-driver-virt: %q is not known\n\n%s", args[0], help)
		return 2
	}
	return 0
}
