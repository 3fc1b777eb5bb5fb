// Package kmsg reads the log of the host's kernel.
package kmsg

import (
	"errors"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// device is the log: each read returns one message.
//
// See Documentation/ABI/testing/dev-kmsg of the kernel.
const device = "/dev/kmsg"

// longest is more than a message of the kernel's has.
const longest = 8 << 10

// Messages are those that the log has, the oldest first, each with the numbers before it.
// They end with the error that keeps the log from being read, if there is one.
func Messages() iter.Seq2[string, error] { return messages(device) }

func messages(path string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		log, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			yield("", &os.PathError{Op: "open", Path: path, Err: err})
			return
		}
		defer func() { _ = unix.Close(log) }()
		message := make([]byte, longest)
		for more := true; more; {
			n, err := unix.Read(log, message)
			switch {
			case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR): // messages were overwritten meanwhile
			case errors.Is(err, unix.EAGAIN), err == nil && n == 0: // that was the last one
				return
			case err != nil:
				yield("", &os.PathError{Op: "read", Path: path, Err: err})
				return
			default:
				more = yield(string(message[:n]), nil)
			}
		}
	}
}
