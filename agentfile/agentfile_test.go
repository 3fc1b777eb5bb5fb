package agentfile

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const block = "nomad-driver-virt"

func write(t *testing.T, name, content string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	one := write(t, filepath.Join(dir, "10-base.hcl"), `
		data_dir = "/opt/nomad/data"
		bind_addr = "0.0.0.0"
		telemetry { collection_interval = "1s" }
		client {
		  enabled = true
		  max_kill_timeout = "1m"
		  reserved { memory = 512 cores = "0" }
		  host_volume "a" { path = "/a" }
		}
		plugin "raw_exec" { config { enabled = true } }
		plugin "nomad-driver-virt" {
		  config {
		    image_paths = ["/images"]
		    storage_pools { directory "a" { path = "/a" } }
		  }
		}`)
	two := write(t, filepath.Join(dir, "20-more.json"), `{"plugin_dir": "/opt/plugins", "client": {"max_kill_timeout": "3m", "memory_total_mb": 9000}}`)
	for _, other := range []string{"30-notes.txt", ".#10-base.hcl", "10-base.hcl~", "#10-base.hcl#", ".10-base.hcl.swp"} {
		write(t, filepath.Join(dir, other), "not { HCL")
	}
	other := write(t, filepath.Join(t.TempDir(), "other.hcl"), `plugin "nomad-driver-virt" { config { acceleration = "tcg" } }`)

	plugin := map[string]any{
		"image_paths":   []any{"/images"},
		"storage_pools": []map[string]any{{"directory": []map[string]any{{"a": []map[string]any{{"path": "/a"}}}}}},
	}
	for _, test := range []struct {
		name  string
		paths []string
		want  Agent
	}{
		{"a file", []string{one}, Agent{
			Files: []string{one}, Client: true, DataDir: "/opt/nomad/data", PluginDir: "/opt/nomad/data/plugins",
			MaxKillTimeout: "1m", ReservedMemory: 512, Plugin: plugin,
		}},
		{"a directory", []string{dir}, Agent{
			Files: []string{one, two}, Client: true, DataDir: "/opt/nomad/data", PluginDir: "/opt/plugins",
			MaxKillTimeout: "3m", ReservedMemory: 512, TotalMemory: 9000, Plugin: plugin,
		}},
		{"a later file wins", []string{one, other}, Agent{
			Files: []string{one, other}, Client: true, DataDir: "/opt/nomad/data", PluginDir: "/opt/nomad/data/plugins",
			MaxKillTimeout: "1m", ReservedMemory: 512, Plugin: map[string]any{"acceleration": "tcg"},
		}},
		{"Nomad's defaults", []string{other}, Agent{
			Files: []string{other}, MaxKillTimeout: "30s", Plugin: map[string]any{"acceleration": "tcg"},
		}},
		{"no such block", []string{two}, Agent{
			Files: []string{two}, PluginDir: "/opt/plugins", MaxKillTimeout: "3m", TotalMemory: 9000,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Read(block, test.paths...)
			if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
				t.Errorf("error %v, and the agent (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	empty := t.TempDir()
	broken := write(t, filepath.Join(t.TempDir(), "agent.hcl"), "client {\n  enabled = \n}")
	number := write(t, filepath.Join(t.TempDir(), "agent.hcl"), `client { reserved { memory = "much" } }`)
	kind := write(t, filepath.Join(t.TempDir(), "agent.hcl"), `client = "on"`)
	for path, want := range map[string]string{
		"/nowhere/agent.hcl": "no such file",
		empty:                "holds no file *.hcl or *.json",
		broken:               broken + " is no configuration of a Nomad agent: at 3:1 it cannot be understood",
		number:               number + " is no configuration of a Nomad agent: strconv.ParseInt: parsing \"much\"",
		kind:                 kind + " is no configuration of a Nomad agent: At 1:10: root.client: not an object",
	} {
		if got, err := Read(block, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s was read as %+v with error %v, want one that says %q", path, got, err, want)
		}
	}
}

// The parser shows the word that it stumbles over.
func TestNoSecretIsShownOfAFileThatCannotBeRead(t *testing.T) {
	for name, content := range map[string]string{
		"agent.hcl":  "plugin \"nomad-driver-virt\" {\n  config {\n    password = hushhush\n  }\n}",
		"open.hcl":   "plugin \"nomad-driver-virt\" {\n  config {\n    password = \"hushhush\n  }\n}",
		"colon.hcl":  "plugin \"nomad-driver-virt\" {\n  config {\n    password: \"hushhush\"\n  }\n}",
		"two.hcl":    "plugin \"nomad-driver-virt\" {\n  config {\n    hush \"hushhush\"\n  password hushhush = 1 }\n}",
		"agent.json": "{\"plugin\": {\n\"password\": hushhush}}",
	} {
		path := write(t, filepath.Join(t.TempDir(), name), content)
		_, err := Read(block, path)
		if err == nil || strings.Contains(err.Error(), "hush") || !regexp.MustCompile(`at [0-9]+:[0-9]+ it cannot be understood`).MatchString(err.Error()) {
			t.Errorf("%s: the error is %v, want one that says where, and shows nothing of the file", name, err)
		}
	}
}
