package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

const consoleHelp = `Usage: nomad-driver-virt console [options] ALLOC [TASK]

Connects to the serial console of a task's VM on this host. ALLOC is the beginning of
the allocation's ID. Ctrl-] leaves it. Where the standard input is no terminal it is
typed at the console, and what the guest writes is shown until Ctrl-] is in the input,
the VM ends, or this is interrupted.

` + hostOptions + `  -force         disconnect whoever is at the console

Exit status: 0, or 1 if there is no such VM, or several, or its console cannot be had,
or 2 if the command line is wrong.
`

func runConsole(ctx context.Context, s Streams, flags *flag.FlagSet, args []string) error {
	var which libvirtFlags
	which.add(flags)
	force := flags.Bool("force", false, "")
	rest, err := parse(flags, args, 1, 2)
	if err != nil {
		return err
	}
	host, end, err := which.host(ctx)
	if err != nil {
		return err
	}
	defer end()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	vms, err := host.VMs(ctx)
	if err != nil {
		return err
	}
	alloc, task := named(rest)
	v, err := one(vms, alloc, task)
	if err != nil {
		return err
	}
	if v.State == "shut off" || v.State == "crashed" {
		return fmt.Errorf("VM %s is %s: it has no console", v.Name, v.State)
	}
	restore, err := raw(s.In)
	if err != nil {
		return err
	}
	defer restore()
	fmt.Fprintf(s.Err, "Connected to VM %s of task %s, Ctrl-] leaves it\r\n", v.Name, v.Journal.Owner.Task)
	return host.Console(ctx, v.Name, &keys{from: s.In, left: ctx.Done(), leave: leave}, s.Out, *force)
}

// raw has a terminal hand over each key as it is; restore has it be as it was.
func raw(in io.Reader) (restore func(), err error) {
	file, is := in.(*os.File)
	if !is || !term.IsTerminal(int(file.Fd())) {
		return func() {}, nil
	}
	was, err := term.MakeRaw(int(file.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(file.Fd()), was) }, nil
}

// escape is Ctrl-], as virsh has it.
const escape = 0x1d

// keys is what is typed at a console: up to the escape, after which it is left. The
// end of the input is none of the console's: the guest may still have to answer.
type keys struct {
	from    io.Reader
	left    <-chan struct{}
	leave   func()
	escaped bool
}

// Read implements io.Reader. What came before the escape is handed on before the
// console is left.
func (k *keys) Read(p []byte) (int, error) {
	if k.escaped {
		k.leave()
		return 0, io.EOF
	}
	n, err := k.from.Read(p)
	if at := bytes.IndexByte(p[:n], escape); at >= 0 {
		k.escaped = true
		return at, nil
	}
	if err != nil && n == 0 {
		<-k.left
		return 0, io.EOF
	}
	return n, nil
}
