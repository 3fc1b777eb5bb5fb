package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nomad-driver-virt/doctor"
	"nomad-driver-virt/vm"
)

func TestSettingsForTheDoctor(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	defaults := settingsFor(nil)
	if defaults.Agent != nil || defaults.Unread != nil || defaults.Wrong != nil || defaults.URI == "" || len(defaults.Pools) == 0 {
		t.Fatalf("without a file the settings are %+v, want the plugin's defaults", defaults)
	}

	good := file("good.hcl", `
data_dir = "/opt/nomad/data"
client {
  enabled = true
  reserved { memory = 512 }
}
plugin "nomad-driver-virt" { config { acceleration = "tcg" } }`)
	got := settingsFor([]string{good})
	want := &doctor.Agent{
		Files: []string{good}, Client: true, HasPlugin: true, DataDir: "/opt/nomad/data", PluginDir: "/opt/nomad/data/plugins",
		MaxKillTimeout: "30s", Reserved: 512 * vm.MiB,
	}
	if diff := cmp.Diff(want, got.Agent); diff != "" || got.Unread != nil || got.Acceleration != "tcg" {
		t.Errorf("the settings are %+v (-want +got):\n%s", got, diff)
	}

	// What comes before it is not taken in part.
	for name, bad := range map[string]string{"a file that is missing": filepath.Join(dir, "none.hcl"), "no HCL": file("bad.hcl", "not { HCL")} {
		got := settingsFor([]string{good, bad})
		if got.Unread == nil || got.Agent != nil || got.Acceleration != defaults.Acceleration || got.URI != defaults.URI || len(got.Pools) != len(defaults.Pools) {
			t.Errorf("%s: the settings are %+v, want the defaults, and why", name, got)
		}
	}
	if got := settingsFor([]string{filepath.Join(dir, "none.hcl")}); !errors.Is(got.Unread, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v, want that to be told", got.Unread)
	}
}
