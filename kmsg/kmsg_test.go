package kmsg

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// all is what is read of a log, and the error that it ends with.
func all(path string) (said []string, err error) {
	for message, failed := range messages(path) {
		if failed != nil {
			return said, failed
		}
		said = append(said, message)
	}
	return said, nil
}

// A pipe has nothing to read, for now, where the kernel's log ends.
func TestMessagesEndWhereTheLogDoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for _, want := range [][]string{nil, {"6,1,2,-;hello\n"}, nil} {
		for _, message := range want {
			if _, err := log.WriteString(message); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := all(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("the log has %q, %v, want %q", got, err, want)
		}
	}
}

func TestLogThatCannotBeReadIsAnError(t *testing.T) {
	dir := t.TempDir()
	if got, err := all(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) || len(got) != 0 {
		t.Errorf("a log that is not there has %q, %v, want the error that says so", got, err)
	}
	if got, err := all(dir); !errors.Is(err, unix.EISDIR) || len(got) != 0 {
		t.Errorf("a directory has %q, %v, want the error that says so", got, err)
	}
}

func TestReaderMayLeave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, make([]byte, 2*longest), 0o600); err != nil {
		t.Fatal(err)
	}
	read := 0
	for range messages(path) {
		read++
		break
	}
	if all, err := all(path); read != 1 || len(all) != 2 || err != nil {
		t.Errorf("%d messages were read, want 1 of %d", read, len(all))
	}
}

// Not everybody may read the kernel's own.
func TestMessagesOfTheKernel(t *testing.T) {
	form := regexp.MustCompile(`^\d+,\d+,\d+,`)
	for message, err := range Messages() {
		switch {
		case err == nil && !form.MatchString(message):
			t.Fatalf("%q does not begin with priority, number and time", message)
		case err != nil && !errors.Is(err, os.ErrPermission) && !errors.Is(err, os.ErrNotExist):
			t.Fatal(err)
		}
	}
}
