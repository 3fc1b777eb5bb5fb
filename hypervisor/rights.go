package hypervisor

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/digitalocean/go-libvirt"
)

// ErrNotRoot says that libvirt does not let this user in, as it would root.
var ErrNotRoot = errors.New("this user may not, run this as root")

// unreached explains why there is no connection. Its socket may be for root and a
// group alone.
func unreached(uri string, root bool, err error) error {
	if !root && errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("asking libvirt at %s: %w: %w", uri, ErrNotRoot, err)
	}
	return fmt.Errorf("libvirt at %s cannot be reached, is libvirtd running? %w", uri, err)
}

// unopened explains why libvirt has refused a connection. Where its socket is for
// all, it asks polkit about those who are not root.
func unopened(uri string, root bool, err error) error {
	refused := isCode(err, libvirt.ErrAuthUnavailable) || isCode(err, libvirt.ErrAuthFailed) || isCode(err, libvirt.ErrAuthCancelled)
	if !root && refused {
		return fmt.Errorf("asking libvirt at %s: %w: %w", uri, ErrNotRoot, err)
	}
	return fmt.Errorf("libvirt refuses to open %s: %w", uri, err)
}
