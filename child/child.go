// Package child runs programs that do not outlive this process: what they do is
// nobody's any more when it has died.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Run runs a program to its end, or to that of this process. The kernel kills it when
// the thread ends that has started it, so the thread is kept meanwhile.
func Run(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}
