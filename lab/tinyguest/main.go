// Command tinyguest is the init of the lab's tiny guest, which boots in seconds
// where Debian takes a minute: a kernel, an initramfs with busybox, and this. It
// does what tests need of cloud-init, and turns itself off when it is asked to.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if os.Getpid() == 1 {
		reap()
	}
	if len(os.Args) == 3 {
		talkUDP(os.Args[1], os.Args[2])
		return
	}
	guest()
}

// reap is process 1: it starts the guest proper as its child, hands on the
// signals by which busybox asks init to shut down, and collects orphans. It
// never returns: the kernel panics when the guest program has ended.
func reap() {
	guest := exec.Command("/proc/self/exe")
	guest.Stdin, guest.Stdout, guest.Stderr = os.Stdin, os.Stdout, os.Stderr
	mount("proc", "/proc", "proc", 0)
	if err := guest.Start(); err != nil {
		logf("start of the guest program: %v", err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGUSR2, unix.SIGTERM)
	go func() {
		for s := range signals {
			_ = guest.Process.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err == nil && pid == guest.Process.Pid {
			logf("the guest program ended: %v", status)
			os.Exit(1)
		}
	}
}

// guest boots: everything up to the commands of the seed in order, those beside
// a shell on the serial console.
func guest() {
	mountSystem()
	loadModules("/lib/modules/load")
	go watchPower()

	s := findSeed()
	if err := unix.Sethostname([]byte(s.hostname)); err != nil {
		logf("hostname %s: %v", s.hostname, err)
	}
	startNetwork(s.hostname, s.network)

	runScript("bootcmd", shellScript(s.config.BootCmd))
	writeFiles(s.config.WriteFiles)
	logf("up")
	go func() {
		for i, script := range s.scripts {
			runScript(fmt.Sprintf("script-%d", i+1), script)
		}
		runScript("runcmd", shellScript(s.config.RunCmd))
		logf("commands done")
	}()
	serveShell(serialConsole())
}

func mountSystem() {
	_ = os.Setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
	_ = os.Setenv("HOME", "/root")
	mount("sysfs", "/sys", "sysfs", 0)
	mount("devtmpfs", "/dev", "devtmpfs", 0)
	mount("devpts", "/dev/pts", "devpts", 0)
	mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
	mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
	mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
}

func mount(source, target, fstype string, flags uintptr) {
	if err := os.MkdirAll(target, 0o755); err != nil {
		logf("directory %s: %v", target, err)
	}
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		logf("mount of %s on %s: %v", fstype, target, err)
	}
}

// loadModules inserts the kernel modules that a file lists, one path a line, each
// after those that it depends on.
func loadModules(list string) {
	paths, err := os.ReadFile(list)
	if err != nil {
		logf("kernel modules: %v", err)
	}
	for _, path := range strings.Fields(string(paths)) {
		if err := loadModule(path); err != nil {
			logf("module %s: %v", path, err)
		}
	}
	logf("modules")
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// serialConsole is the terminal that the kernel writes to: its name depends on the
// architecture.
func serialConsole() string {
	names, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		logf("console: %v", err)
	}
	all := strings.Fields(string(names))
	if len(all) == 0 {
		return "/dev/ttyS0"
	}
	return "/dev/" + all[len(all)-1] // the one that /dev/console is
}

// serveShell keeps a root shell on a terminal, which begins at the first Enter: a
// prompt would stand in the way of those who read the console line by line.
func serveShell(terminal string) {
	for {
		if err := runShell(terminal); err != nil {
			logf("no shell: %v", err)
			select {}
		}
	}
}

func runShell(terminal string) error {
	tty, err := os.OpenFile(terminal, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	if _, err := bufio.NewReader(tty).ReadString('\n'); err != nil {
		return err
	}
	shell := exec.Command("/bin/sh", "-l")
	shell.Stdin, shell.Stdout, shell.Stderr = tty, tty, tty
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := shell.Run(); err != nil {
		logf("shell: %v", err)
	}
	return nil
}

// console serializes the lines of logf.
var console sync.Mutex

// logf writes a line with the guest's uptime on the console.
func logf(format string, args ...any) {
	console.Lock()
	defer console.Unlock()
	fmt.Printf("tiny: %s %.1fs\n", fmt.Sprintf(format, args...), uptime())
}

func uptime() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return float64(now.Nano()) / 1e9
}
