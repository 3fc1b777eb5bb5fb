package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// socketsOf returns the sockets that may serve a libvirt URI, most likely
// first: libvirtd's, and that of the modular daemon for QEMU, which passes on
// what concerns networks and storage.
//
// See https://libvirt.org/uri.html and https://libvirt.org/daemons.html
func socketsOf(uri string) ([]string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("libvirt URI %q cannot be read: %w", uri, errors.Unwrap(err))
	}
	driver, transport, _ := strings.Cut(u.Scheme, "+")
	switch {
	case driver == "":
		return nil, fmt.Errorf("libvirt URI %q names no driver, write it like qemu:///system", uri)
	case u.Host != "" || transport != "" && transport != "unix":
		return nil, fmt.Errorf("libvirt URI %q is reached over a network; the driver manages the VMs of its own host, "+
			"write it like qemu:///system", uri)
	}
	if socket := u.Query().Get("socket"); socket != "" {
		return []string{socket}, nil
	}
	dir := "/run/libvirt"
	if u.Path == "/session" {
		if dir = os.Getenv("XDG_RUNTIME_DIR"); dir == "" {
			dir = fmt.Sprintf("/run/user/%d", os.Getuid())
		}
		dir = filepath.Join(dir, "libvirt")
	}
	return []string{
		filepath.Join(dir, "libvirt-sock"),
		filepath.Join(dir, "virt"+driver+"d-sock"),
	}, nil
}

// dial connects to the first of the sockets that answers.
func dial(ctx context.Context, sockets []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var errs []error
	for _, socket := range sockets {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
