package memfile

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

func TestFileIsInMemoryAlone(t *testing.T) {
	for name, open := range map[string]func(string, []byte) (*os.File, error){"that can be written": Of, "that cannot": ReadOnly} {
		t.Run(name, func(t *testing.T) {
			file, err := open("secret", []byte("hush"))
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			content, err := io.ReadAll(file)
			if err != nil || string(content) != "hush" {
				t.Errorf("its content is %q, %v, want hush from the beginning", content, err)
			}
			path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
			if err != nil || !strings.HasPrefix(path, "/memfd:secret") {
				t.Errorf("the file is %q, %v, want one in memory", path, err)
			}
			_, err = file.WriteAt([]byte("H"), 0)
			if writable := err == nil; writable != (name == "that can be written") {
				t.Errorf("it can be written: %t (%v)", writable, err)
			}
		})
	}
}
