// Package console keeps what a guest writes to its serial console: virtlogd
// writes it to files, and Follow copies those to whoever reads.
package console

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dir holds a directory for each VM. It is libvirt's own place for logs, where
// SELinux lets virtlogd write.
var dir = "/var/log/libvirt/nomad-driver-virt"

// Log is the file that virtlogd writes a VM's console to. It is renamed with the
// suffix ".0" when it is full (2 MiB), the one before to ".1", and so on, as far
// as max_backups says (3).
//
// See virtlogd.conf, and <log> in https://libvirt.org/formatdomain.html#consoles-serial-parallel-channel-devices
func Log(vmName string) string {
	return filepath.Join(dir, vmName, logName)
}

const logName = "console.log"

// Make makes the directory for the console of a VM. Only root may read it: a
// guest's console may tell secrets.
func Make(vmName string) error {
	if err := checkName(vmName); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, vmName), 0o700)
}

// Remove removes all that is kept of a VM's console. If there is nothing, that is
// no error.
func Remove(vmName string) error {
	if err := checkName(vmName); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, vmName))
}

func checkName(vmName string) error {
	if vmName == "" || vmName == "." || vmName == ".." || strings.ContainsRune(vmName, '/') {
		return fmt.Errorf("%q is no name of a VM", vmName)
	}
	return nil
}
