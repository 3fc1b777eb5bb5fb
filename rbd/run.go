package rbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"nomad-driver-virt/child"
	"nomad-driver-virt/memfile"
	"nomad-driver-virt/vm"
)

const (
	runTimeout   = 60 * time.Second // of one process, if the context has no deadline
	mountTimeout = 10 * time.Second // until a monitor lets us in
	monTimeout   = 10 * time.Second // of one request to a monitor
	// Of one request to an OSD. After the death of an OSD its requests take 20 s
	// and more until Ceph has noticed and another answers.
	osdTimeout = 30 * time.Second
)

const osdTimeoutOption = "--rados-osd-op-timeout="

// program is what run runs.
type program struct {
	name     string
	args     []string
	outlives bool // whether it goes on when the context ends, and after the death of this process
}

// rbd runs rbd and returns what it wrote.
func (p Pool) rbd(ctx context.Context, asked string, args ...string) ([]byte, error) {
	return p.run(ctx, asked, program{name: "rbd", args: args})
}

// run runs a program of Ceph and returns what it wrote. Where the pool's OSDs
// do not answer it asks whether that is because the pool is full: then they
// keep all writers waiting.
func (p Pool) run(ctx context.Context, asked string, what program) ([]byte, error) {
	limit := runTimeout
	if what.outlives {
		limit = renameTimeout
	}
	limited, cancel := bounded(ctx, limit)
	defer cancel()
	out, err := p.execute(limited, what)
	if errors.Is(err, errSilent) {
		if full := p.Full(ctx); full != nil {
			err = full
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", asked, err)
	}
	return out, nil
}

// Full returns an error that is ErrFull if Ceph says that the pool takes no
// more data, and nil also where Ceph does not say. It is for those who write to
// the pool by other means, and wait.
func (p Pool) Full(ctx context.Context) error {
	ctx, cancel := bounded(ctx, runTimeout)
	defer cancel()
	out, err := p.execute(ctx, program{name: "ceph", args: []string{"osd", "dump", "--format", "json"}})
	if err != nil {
		return nil //nolint:nilerr // it is not known, and why is another question
	}
	switch full, quota, err := parseFull(out, p.Pool); {
	case err != nil || !full:
		return nil
	case quota:
		return fmt.Errorf("%s %w: it has reached its quota; remove volumes, or raise it by `ceph osd pool set-quota`", p, ErrFull)
	default:
		return fmt.Errorf("%s %w, and takes no more data; remove volumes, or add OSDs", p, ErrFull)
	}
}

// bounded is the context with a time limit, unless it has one.
func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// execute runs a program of Ceph until it or the context ends.
func (p Pool) execute(ctx context.Context, what program) ([]byte, error) {
	for _, arg := range what.args {
		if arg == "" {
			return nil, fmt.Errorf("%s: the name of a volume must not be empty, or have / or @ in it", p)
		}
	}
	key, err := p.keyFile()
	if err != nil {
		return nil, err
	}
	defer key.Close()

	options := p.connection()
	if what.outlives { // to give up half-way is what it must not
		options = slices.DeleteFunc(options, func(o string) bool { return strings.HasPrefix(o, osdTimeoutOption) })
	}
	running := ctx
	if what.outlives {
		running = context.WithoutCancel(ctx)
	}
	cmd := exec.CommandContext(running, what.name, append(options, what.args...)...)
	// What this process inherited may name another cluster.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.ExtraFiles = []*os.File{key}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if what.outlives {
		err = leave(ctx, cmd)
	} else {
		err = child.Run(cmd)
	}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, p.givenUp(what.name, ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		said := strings.ReplaceAll(stderr.String(), strings.TrimSpace(p.Key), "(the key)")
		return nil, p.explain(syscall.Errno(exit.ExitCode()), strings.Join(strings.Fields(said), " "))
	}
	return nil, fmt.Errorf("running %s, which Debian has in ceph-common: %w", what.name, err)
}

// leave runs a program, and leaves it to end by itself when the context ends.
func leave(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connection is how the programs of Ceph are told of the cluster: by these
// alone, and not by /etc/ceph/ceph.conf, which may be another cluster's or not
// be there. The key is in descriptor 3.
//
// See https://docs.ceph.com/en/pacific/man/8/rbd/#options; each setting of
// Ceph's is an option.
func (p Pool) connection() []string {
	return []string{
		"--conf=/dev/null",
		"--mon-host=" + strings.Join(p.Monitors, ","),
		"--id=" + p.User,
		"--keyfile=/proc/self/fd/3",
		"--client-mount-timeout=" + seconds(mountTimeout),
		"--rados-mon-op-timeout=" + seconds(monTimeout),
		osdTimeoutOption + seconds(osdTimeout),
		// The libraries' logs, in between the program's own words.
		"--log-to-stderr=false",
		"--err-to-stderr=false",
	}
}

func seconds(d time.Duration) string { return fmt.Sprint(int(d.Seconds())) }

// keyFile is the key as a file without a name. The library reads it several
// times, which a pipe does not allow.
func (p Pool) keyFile() (*os.File, error) {
	key := strings.TrimSpace(p.Key)
	if _, is := vm.CephKey(key); !is {
		return nil, fmt.Errorf("the key of client.%s for Ceph pool %s is not what `ceph auth print-key client.%s` writes",
			p.User, p.Pool, p.User)
	}
	return memfile.Of("ceph-key", []byte(key))
}
