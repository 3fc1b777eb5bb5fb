package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"

	"nomad-driver-virt/vm"
)

// Copy is an image, and the volume that it is written to.
type Copy struct {
	File  *os.File // the image, as it was inspected
	Image vm.Image
	To    vm.Volume
	Key   string // of the Ceph client To.RBD.User, in base64; "" elsewhere
	// Progress is told how much is done, from 0 to 1, in one goroutine and not
	// after the copy has returned; nil: nobody asks.
	Progress func(done float64)
}

// Fill writes an image to a volume that was created, is empty and is at least
// as large: what is a hole in the image is left as it is in the volume.
//
// An image that was written since it was inspected is refused afterwards: its
// header could have led qemu-img to other files, and what was copied of that is
// not to be used. So is one that is damaged, by Check, which goes on meanwhile.
func Fill(ctx context.Context, c Copy) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	checked := make(chan error, 1)
	go func() {
		err := Check(ctx, c.File, c.Image)
		if err != nil {
			stop(err)
		}
		checked <- err
	}()
	err := c.fill(ctx)
	// Where qemu-img has failed, the check may tell why.
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		stop(err)
	}
	if bad := <-checked; bad != nil && (err == nil || !errors.Is(bad, err)) {
		return bad
	}
	return err
}

func (c Copy) fill(ctx context.Context) error {
	switch {
	case c.To.RBD != nil:
		return c.fillRBD(ctx)
	case c.Image.Format == Raw && c.To.Format == Raw:
		return c.fillRaw(ctx)
	}
	return c.convert(ctx, conversion{
		from:    source(c.Image),
		to:      optionList("driver", c.To.Format, "file.driver", "file", "file.filename", c.To.Path),
		name:    c.To.Path,
		options: []string{"-n", "--target-is-zero", "--target-image-opts"},
		limits:  convertLimits(c.Image.Size, fileLimit(c.To.Format, max(c.To.Size, c.Image.Size))),
	})
}

// fillRBD writes to an image of a Ceph pool. The key goes through a pipe: the
// arguments of a process and its environment can be read by others.
func (c Copy) fillRBD(ctx context.Context) error {
	if c.To.Format != Raw {
		return fmt.Errorf("the volume %s is of format %q; a volume of a Ceph pool is raw", c.To.Name, c.To.Format)
	}
	target, err := rbdTarget(c.To)
	if err != nil {
		return err
	}
	if err := judgeKey(c.Key, c.To.RBD.User); err != nil {
		return err
	}
	key, err := secretPipe(c.Key)
	if err != nil {
		return err
	}
	defer key.Close()
	return c.convert(ctx, conversion{
		from: source(c.Image),
		to:   target,
		name: c.To.RBD.Pool + "/" + c.To.Name,
		options: []string{"--object", "secret," + optionList("id", "key", "format", "base64", "file", "/proc/self/fd/4"),
			"-n", "--target-is-zero", "--target-image-opts"},
		files:  []*os.File{key},
		limits: rbdLimits(c.Image.Size),
	})
}

// conversion is one run of qemu-img convert.
type conversion struct {
	from, to string // as qemu-img is told
	name     string // what errors call the target
	options  []string
	files    []*os.File // descriptors from 4 on
	limits   limits
}

func (c Copy) convert(ctx context.Context, conv conversion) error {
	args := append([]string{"convert", "-p"}, parallel...)
	args = append(append(args, conv.options...), conv.from, conv.to)
	err := qemuImg{
		args:   args,
		image:  c.File,
		files:  conv.files,
		limits: conv.limits,
		stdout: &progress{tell: c.Progress},
		names:  []string{conv.from, c.File.Name(), conv.to, conv.name, "/proc/self/fd/4", conv.name},
		secret: c.Key,
	}.run(ctx)
	if err := unwritten(c.File, c.Image); err != nil {
		return err
	}
	return err
}

// rbdTarget describes an image of a Ceph pool to qemu-img; its key is the
// secret with the ID "key".
//
// See "BlockdevOptionsRbd" in https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
func rbdTarget(to vm.Volume) (string, error) {
	pairs := []string{"driver", Raw, "file.driver", "rbd", "file.pool", to.RBD.Pool, "file.image", to.Name,
		"file.user", to.RBD.User, "file.key-secret", "key"}
	for i, monitor := range to.RBD.Monitors {
		host, port, err := net.SplitHostPort(monitor)
		if err != nil {
			return "", fmt.Errorf("the Ceph monitor %q of pool %s is no \"host:port\": %w", monitor, to.Pool, err)
		}
		server := fmt.Sprintf("file.server.%d.", i)
		pairs = append(pairs, server+"host", host, server+"port", port)
	}
	return optionList(pairs...), nil
}

// optionList writes pairs of keys and values as QEMU has them: a comma in a
// value is doubled.
func optionList(pairs ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(pairs); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(pairs[i] + "=" + strings.ReplaceAll(pairs[i+1], ",", ",,"))
	}
	return b.String()
}

// judgeKey refuses a key that is none: librbd would say it aloud.
func judgeKey(key, user string) error {
	if _, is := vm.CephKey(key); !is {
		return fmt.Errorf("the key of the Ceph client %q is none: "+
			"it is to be what \"ceph auth get-key client.%s\" prints", user, user)
	}
	return nil
}

// secretPipe returns a pipe from which a secret is read once. It is short
// enough for the pipe to hold it.
func secretPipe(secret string) (*os.File, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if _, err := in.WriteString(secret); err != nil {
		out.Close()
		return nil, err
	}
	return out, nil
}
