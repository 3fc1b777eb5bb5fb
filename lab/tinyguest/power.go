package main

import (
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// inputEvent is the kernel's struct input_event on 64-bit machines.
type inputEvent struct {
	Sec, Usec  int64
	Type, Code uint16
	Value      int32
}

const (
	evKey    = 1
	keyPower = 116
	pressed  = 1
)

func (e inputEvent) isPowerButton() bool {
	return e.Type == evKey && e.Code == keyPower && e.Value == pressed
}

// watchPower shuts down at the ACPI power button, which is how a hypervisor asks
// for it, and at the signals of busybox's poweroff and reboot.
func watchPower() {
	devices, _ := filepath.Glob("/dev/input/event*")
	for _, device := range devices {
		go watchButton(device)
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGUSR2, unix.SIGTERM)
	for s := range asked {
		if s == unix.SIGTERM {
			shutdown("reboot", unix.LINUX_REBOOT_CMD_RESTART)
		} else {
			shutdown("poweroff", unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
}

func watchButton(device string) {
	f, err := os.Open(device)
	if err != nil {
		logf("input device: %v", err)
		return
	}
	defer f.Close()
	if pressedIn(f) {
		shutdown("power button", unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
}

// pressedIn reads input events until the power button is pressed.
func pressedIn(events io.Reader) bool {
	for {
		var e inputEvent
		if err := binary.Read(events, binary.LittleEndian, &e); err != nil {
			return false
		}
		if e.isPowerButton() {
			return true
		}
	}
}

var goingDown sync.Once

// shutdown runs the hooks of /etc/shutdown.d in the order of their names, and
// ends the guest.
func shutdown(why string, how int) {
	goingDown.Do(func() {
		logf("%s", why)
		hooks, _ := filepath.Glob("/etc/shutdown.d/*")
		for _, hook := range hooks {
			cmd := exec.Command(hook)
			cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
			if err := cmd.Run(); err != nil {
				logf("%s: %v", hook, err)
			}
		}
		logf("down")
		unix.Sync()
		if err := unix.Reboot(how); err != nil {
			logf("%s: %v", why, err)
		}
	})
}
