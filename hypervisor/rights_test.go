package hypervisor

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/digitalocean/go-libvirt"
)

// closedSocket is what a user meets whom the socket is not for.
var closedSocket = dialing("libvirt-sock", syscall.EACCES)

func dialing(socket string, why syscall.Errno) error {
	return &net.OpError{
		Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: "/run/libvirt/" + socket, Net: "unix"}, Err: os.NewSyscallError("connect", why),
	}
}

func TestWhoIsNotRootIsToldSo(t *testing.T) {
	polkit := libvirt.Error{Code: uint32(libvirt.ErrAuthUnavailable), Message: "no polkit agent available to authenticate action 'org.libvirt.unix.manage'"}
	for _, test := range []struct {
		name    string
		explain func(uri string, root bool, err error) error
		root    bool
		err     error
		notRoot bool
		says    string
	}{
		{"a socket of root's", unreached, false, closedSocket, true, "permission denied"},
		{"a socket of root's, and none of the modular daemon's", unreached, false, errors.Join(closedSocket, dialing("virtqemud-sock", syscall.ENOENT)), true, "permission denied"},
		{"a socket that keeps root out", unreached, true, closedSocket, false, "is libvirtd running?"},
		{"no socket", unreached, false, dialing("libvirt-sock", syscall.ENOENT), false, "is libvirtd running?"},
		{"polkit has nobody to ask", unopened, false, polkit, true, "no polkit agent"},
		{"polkit says no", unopened, false, libvirt.Error{Code: uint32(libvirt.ErrAuthFailed)}, true, "asking libvirt at qemu:///system"},
		{"polkit is given up", unopened, false, libvirt.Error{Code: uint32(libvirt.ErrAuthCancelled)}, true, "run this as root"},
		{"root is refused", unopened, true, polkit, false, "libvirt refuses to open"},
		{"a driver that is missing", unopened, false, libvirt.Error{Code: uint32(libvirt.ErrNoConnect)}, false, "libvirt refuses to open"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.explain("qemu:///system", test.root, test.err)
			if errors.Is(got, ErrNotRoot) != test.notRoot {
				t.Errorf("the error is %q, want it to be about root: %t", got, test.notRoot)
			}
			mustSay(t, got, test.says)
		})
	}
}
