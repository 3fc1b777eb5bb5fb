// Package cli is what the plugin's binary does for the person who runs it by hand:
// it looks at the host, judges job files, and shows the VMs of this host. No command
// changes anything.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Exit statuses of all commands.
const (
	exitFine    = 0
	exitProblem = 1 // a problem was found, or what was asked could not be done
	exitUsage   = 2 // the command line cannot be understood, or what it names to be judged cannot be read
)

// Streams are those of the process.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// command is one of those there are.
type command struct {
	name string
	does string // for the list of them
	help string
	run  func(ctx context.Context, s Streams, flags *flag.FlagSet, args []string) error
}

var commands = []command{
	{"doctor", "look at this host, and say what is in the way of VMs", doctorHelp, runDoctor},
	{"validate", "say what the driver would refuse in a job file", validateHelp, runValidate},
	{"list", "list the VMs of this host, by job, allocation and task", listHelp, runList},
	{"stats", "show what they use: CPU, memory, disks, interfaces", statsHelp, runStats},
	{"console", "connect to the serial console of a task's VM", consoleHelp, runConsole},
}

// List is a line for each command.
func List() string {
	var b strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&b, "  nomad-driver-virt %-12s %s\n", c.name, c.does)
	}
	return b.String()
}

// Is tells whether there is a command of that name.
func Is(name string) bool { return find(name) >= 0 }

func find(name string) int {
	return slices.IndexFunc(commands, func(c command) bool { return c.name == name })
}

// Run carries out a command that there is, and returns the exit status.
func Run(ctx context.Context, s Streams, name string, args []string) int {
	c := commands[find(name)]
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	switch err := c.run(ctx, s, flags, args); {
	case err == nil:
		return exitFine
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(s.Out, c.help)
		return exitFine
	case errors.As(err, new(usageError)):
		fmt.Fprintf(s.Err, "nomad-driver-virt %s: %s\n\n%s", name, err, c.help)
		return exitUsage
	case errors.Is(err, errSaid):
		return exitProblem
	case errors.As(err, new(unreadError)):
		fmt.Fprintf(s.Err, "nomad-driver-virt %s: %s\n", name, err)
		return exitUsage
	default:
		fmt.Fprintf(s.Err, "nomad-driver-virt %s: %s\n", name, err)
		return exitProblem
	}
}

// usageError is about the command line.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// unreadError is about a file that was to be judged, and that cannot be read: nothing is
// known of it, which is another thing than that it has problems.
type unreadError struct{ error }

// errSaid is for problems that were printed.
var errSaid = errors.New("problems were found")

// parse reads a command line, and returns what is not flags: as many arguments as
// there are to be.
func parse(flags *flag.FlagSet, args []string, least, most int) ([]string, error) {
	err := flags.Parse(args)
	switch rest := flags.Args(); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		return nil, usageError{err}
	case slices.ContainsFunc(rest, isOption):
		option := rest[slices.IndexFunc(rest, isOption)]
		return nil, usagef("%s stands behind %q: options come first", option, rest[0])
	case len(rest) < least:
		return nil, usagef("an argument is missing")
	case len(rest) > most:
		return nil, usagef("%q is one argument too many", rest[most])
	default:
		return rest, nil
	}
}

// isOption tells an option from an argument: - alone is the standard input.
func isOption(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

// several is a flag that may be given several times.
type several []string

func (s *several) String() string { return strings.Join(*s, ", ") }

func (s *several) Set(value string) error {
	*s = append(*s, value)
	return nil
}
