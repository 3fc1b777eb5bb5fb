package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"golang.org/x/sys/unix"

	"nomad-driver-virt/kmsg"
	"nomad-driver-virt/vm"
)

const (
	exitFailed = 1
	sigkill    = 9
	exitKilled = 128 + sigkill // as a shell tells it
)

// errCrashed says that QEMU ended, and that nobody had asked it to.
var errCrashed = errors.New("QEMU crashed or was killed")

// exitFor tells how a domain ended whose state was read. What cannot be read has
// not ended.
func exitFor(s domainState, err error) (vm.Exit, bool) {
	if errors.Is(err, ErrNoDomain) {
		return exitOf(domainState{libvirt.DomainShutoff, int32(libvirt.DomainShutoffDestroyed)}), true
	}
	if err != nil || s.executes() {
		return vm.Exit{}, false
	}
	return exitOf(s), true
}

// exitOf translates libvirt's reason for a domain being off, or crashed.
//
// See virDomainShutoffReason and virDomainCrashedReason in
// https://libvirt.org/html/libvirt-libvirt-domain.html
func exitOf(s domainState) vm.Exit {
	exit := vm.Exit{Code: exitFailed, EndedAt: time.Now()}
	if s.state == libvirt.DomainCrashed {
		exit.Err = errors.New("the guest panicked: its kernel, or what serves as one, gave up; " +
			"the end of the task's log may tell why")
		return exit
	}
	switch libvirt.DomainShutoffReason(s.reason) {
	case libvirt.DomainShutoffShutdown:
		exit.Code = 0
	case libvirt.DomainShutoffDestroyed:
		exit.Code, exit.Signal = exitKilled, sigkill
		exit.Err = errors.New("the VM was destroyed by another hand than Nomad's (virsh destroy, for one)")
	case libvirt.DomainShutoffMigrated:
		exit.Err = errors.New("the VM was migrated to another host by another hand than Nomad's")
	case libvirt.DomainShutoffSaved:
		exit.Err = errors.New("the VM was saved and stopped by another hand than Nomad's (virsh managedsave, or libvirt-guests)")
	case libvirt.DomainShutoffUnknown:
		exit.Err = errors.New("the VM ended while libvirt was not watching, the reason is not known")
	default:
		exit.Err = errCrashed
	}
	return exit
}

// crashed completes the exit of a QEMU that crashed or was killed by what it said
// last, if anything, and by whether it was killed because there was no memory.
func crashed(exit vm.Exit, words string, noMemory bool) vm.Exit {
	switch {
	case noMemory:
		exit.Code, exit.Signal, exit.OOMKilled = exitKilled, sigkill, true
		exit.Err = errors.New("QEMU was killed by the kernel, there was no memory left for it: QEMU needs some beside " +
			"the guest's, for which the client's reserved.memory has to leave room")
	case words != "":
		exit.Err = fmt.Errorf("%w; its last words: %s", errCrashed, words)
	default:
		exit.Err = fmt.Errorf("%w, without a word (kill -9, for one); the kernel's log may tell why", errCrashed)
	}
	return exit
}

// qemuLogs is where libvirt has QEMU's standard error written.
var qemuLogs = "/var/log/libvirt/qemu"

// wordsWithin is how long QEMU's last words may take to be in its log: they go
// through virtlogd.
const wordsWithin = 200 * time.Millisecond

// lastWords is what the QEMU of a domain said last; "": nothing that can be read.
func lastWords(ctx context.Context, name string) string {
	words := readWords(name)
	if words != "" {
		return words
	}
	select {
	case <-time.After(wordsWithin):
	case <-ctx.Done():
	}
	return readWords(name)
}

func readWords(name string) string {
	file, err := os.Open(filepath.Join(qemuLogs, name+".log"))
	if err != nil {
		return ""
	}
	defer file.Close()
	const tail = 16 << 10
	if end, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, end-tail), io.SeekStart)
	}
	text, err := io.ReadAll(io.LimitReader(file, tail))
	if err != nil {
		return ""
	}
	return wordsOf(string(text))
}

const (
	mostWords   = 3   // lines
	longestWord = 300 // bytes
)

// qemuTime is what QEMU and libvirt put before what they say.
var qemuTime = regexp.MustCompile(`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+(Z|\+\d{4}):? `)

// wordsOf finds the last lines of QEMU's in a log, which libvirt writes to as well:
// how it starts QEMU, with all arguments, and that QEMU has ended.
func wordsOf(log string) string {
	lines := strings.Split(log, "\n")
	var words []string
	for i := len(lines) - 1; i >= 0 && len(words) < mostWords; i-- {
		line := strings.TrimSpace(qemuTime.ReplaceAllString(lines[i], ""))
		switch {
		case i > 0 && strings.HasSuffix(lines[i-1], `\`), strings.HasSuffix(line, `\`), strings.HasPrefix(line, "starting up "):
			i = 0 // before it there was no QEMU
		case line == "", strings.HasPrefix(line, "shutting down"), strings.HasPrefix(line, "char device redirected"),
			strings.HasPrefix(line, "Domain id="), isWarning(line):
		default:
			words = append([]string{line[:min(len(line), longestWord)]}, words...)
		}
	}
	return strings.ToValidUTF8(strings.Join(words, "; "), "?")
}

// isWarning tells what QEMU says when it starts of arguments that it does not like,
// which it lives with.
func isWarning(line string) bool {
	return strings.Contains(line, ": warning: ") || strings.HasPrefix(line, "Please use ")
}

// killedForMemory tells whether the kernel has killed the QEMU of a domain because
// there was no memory left. Where it does not let its log be read, it has not.
func killedForMemory(name string) bool {
	for message, err := range kmsg.Messages() {
		if err == nil && isKillOf(name, message) {
			return true
		}
	}
	return false
}

// isKillOf tells whether a message of the kernel's says that it killed the QEMU of
// a domain for want of memory: it names the control group, in which libvirt has
// put QEMU by the domain's name.
//
// See dump_oom_victim in mm/oom_kill.c of the kernel, and
// https://libvirt.org/cgroups.html
func isKillOf(name, message string) bool {
	if !strings.Contains(message, "oom-kill:") {
		return false
	}
	_, group, is := strings.Cut(message, ",task_memcg=")
	if !is {
		return false
	}
	path, _, _ := strings.Cut(group, ",task=")
	for element := range strings.SplitSeq(unescape(path), "/") {
		element = strings.TrimSuffix(strings.TrimSuffix(element, ".scope"), ".libvirt-qemu")
		element = strings.TrimPrefix(element, "machine-")
		id, _, _ := strings.Cut(strings.TrimPrefix(element, "qemu-"), "-")
		if _, err := strconv.Atoi(id); err != nil {
			continue
		}
		whole, isCut := machineName(id, name)
		if element == whole && (!isCut || isRecent(message)) {
			return true
		}
	}
	return false
}

// maxMachineName is as much as libvirt has room for.
const maxMachineName = 64

// machineName is what libvirt makes of a domain's number and name, and whether the
// name did not fit: then others may have it, too.
//
// See virDomainDriverGenerateMachineName in src/hypervisor/domain_driver.c of libvirt.
func machineName(id, name string) (machine string, isCut bool) {
	b := []byte("qemu-" + id + "-")
	skip := true // one of several dots and hyphens is enough
	for i, c := range []byte(name) {
		if len(b) >= maxMachineName {
			isCut = i < len(name)
			break
		}
		switch {
		case c == '.' || c == '-':
			if !skip {
				b = append(b, c)
			}
			skip = true
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			b = append(b, c)
			skip = false
		default:
			skip = false
		}
	}
	return strings.TrimRight(string(b), "-."), isCut
}

// recently is how old a message about a name may be that others may have.
const recently = 10 * time.Minute

// isRecent tells whether a message of the kernel's is a new one: it has the time
// since the host was started, in microseconds, as its third number.
func isRecent(message string) bool {
	fields := strings.SplitN(message, ",", 4)
	var now unix.Timespec
	if len(fields) < 4 || unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return false
	}
	at, err := strconv.ParseInt(fields[2], 10, 64)
	return err == nil && time.Duration(now.Nano())-time.Duration(at)*time.Microsecond < recently
}

// escaped is a character in a name of systemd's, as in "\x2d". The kernel's log
// has its backslash as "\x5c".
var escaped = regexp.MustCompile(`(?:\\x5c|\\)x([0-9a-f]{2})`)

func unescape(s string) string {
	return escaped.ReplaceAllStringFunc(s, func(e string) string {
		code, err := strconv.ParseUint(e[len(e)-2:], 16, 8)
		if err != nil {
			return e
		}
		return string(rune(code))
	})
}
