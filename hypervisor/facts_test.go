package hypervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestDotted(t *testing.T) {
	for version, want := range map[uint64]string{
		9_000_000:  "9.0.0",
		7_002_022:  "7.2.22",
		11_010_001: "11.10.1",
		0:          "0.0.0",
	} {
		if got := Version(version).String(); got != want {
			t.Errorf("version %d is written %q, want %q", version, got, want)
		}
	}
}

func TestVirtiofsdInstalled(t *testing.T) {
	program := filepath.Join(t.TempDir(), "virtiofsd")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	describe := func(kind, binary string) string {
		return fmt.Sprintf(`{"description": "a program", "type": %q, "binary": %q}`, kind, binary)
	}
	for _, test := range []struct {
		name  string
		files map[string]string
		want  bool
	}{
		{"described and there", map[string]string{"50-virtiofsd.json": describe("fs", program)}, true},
		{"described and gone", map[string]string{"50-virtiofsd.json": describe("fs", program+"-old")}, false},
		{"a program for graphics", map[string]string{"50-gpu.json": describe("gpu", program)}, false},
		{"behind a broken description", map[string]string{"10-broken.json": "{", "50-virtiofsd.json": describe("fs", program)}, true},
		{"a file of another kind", map[string]string{"50-virtiofsd.json.dpkg-old": describe("fs", program)}, false},
		{"nothing described", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range test.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			missing := filepath.Join(dir, "missing")
			if got := virtiofsdInstalled([]string{missing, dir}); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
