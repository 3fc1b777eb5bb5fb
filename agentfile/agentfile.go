// Package agentfile reads the configuration of a Nomad agent, as far as it matters
// to VMs. It takes files and directories as `nomad agent -config` does, and leaves
// what it does not know to Nomad.
package agentfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl"
)

// Agent is what the files say, the later ones before the earlier. Nomad's own
// defaults are filled in.
type Agent struct {
	Files          []string // that were read
	Client         bool     // whether it runs tasks
	DataDir        string
	PluginDir      string
	MaxKillTimeout string
	ReservedMemory int // MiB that are kept from tasks
	TotalMemory    int // MiB that the host is said to have; 0: what it has
	// Plugin is the config block of a plugin, as HCL reads it; nil: there is none.
	Plugin map[string]any
}

// defaultMaxKillTimeout is Nomad's.
const defaultMaxKillTimeout = "30s"

type file struct {
	DataDir   string    `hcl:"data_dir"`
	PluginDir string    `hcl:"plugin_dir"`
	Client    *client   `hcl:"client"`
	Plugins   []*plugin `hcl:"plugin"`
}

type client struct {
	Enabled        bool      `hcl:"enabled"`
	MaxKillTimeout string    `hcl:"max_kill_timeout"`
	TotalMemory    int       `hcl:"memory_total_mb"`
	Reserved       *reserved `hcl:"reserved"`
}

type reserved struct {
	Memory int `hcl:"memory"`
}

type plugin struct {
	Name   string         `hcl:",key"`
	Config map[string]any `hcl:"config"`
}

// Read reads files, and the files *.hcl and *.json of directories in the order of
// their names. The plugin is known by the name of its block.
func Read(pluginBlock string, paths ...string) (Agent, error) {
	agent := Agent{MaxKillTimeout: defaultMaxKillTimeout}
	for _, path := range paths {
		files, err := filesOf(path)
		if err != nil {
			return agent, err
		}
		for _, name := range files {
			content, err := os.ReadFile(name)
			if err != nil {
				return agent, err
			}
			var f file
			if err := hcl.Decode(&f, string(content)); err != nil {
				return agent, fmt.Errorf("%s is no configuration of a Nomad agent: %w", name, withoutText(err))
			}
			agent.take(f, pluginBlock)
			agent.Files = append(agent.Files, name)
		}
	}
	if agent.PluginDir == "" && agent.DataDir != "" {
		agent.PluginDir = filepath.Join(agent.DataDir, "plugins")
	}
	return agent, nil
}

var position = regexp.MustCompile(`\d+:\d+`)

// withoutText is an error of HCL's that shows nothing of the file: the parser shows
// what it stumbles over, which is the secret where somebody has left out the quotes.
func withoutText(err error) error {
	text := err.Error()
	if strings.Contains(text, ": root.") || errors.Is(err, strconv.ErrSyntax) { // it was read, and is of another type
		return err
	}
	return fmt.Errorf("at %s it cannot be understood; is a text there without quotes, or a bracket missing?", position.FindString(text))
}

// isTemporary tells the files of editors, which Nomad does not read either.
func isTemporary(name string) bool {
	return strings.HasSuffix(name, "~") || strings.HasPrefix(name, ".#") ||
		strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#")
}

// filesOf lists the files that a path stands for.
func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path) // sorted
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && !isTemporary(e.Name()) && slices.Contains([]string{".hcl", ".json"}, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("directory %s holds no file *.hcl or *.json", path)
	}
	return files, nil
}

// take merges another file, as Nomad does.
func (a *Agent) take(f file, pluginBlock string) {
	set(&a.DataDir, f.DataDir)
	set(&a.PluginDir, f.PluginDir)
	if c := f.Client; c != nil {
		a.Client = a.Client || c.Enabled
		set(&a.MaxKillTimeout, c.MaxKillTimeout)
		set(&a.TotalMemory, c.TotalMemory)
		if c.Reserved != nil {
			set(&a.ReservedMemory, c.Reserved.Memory)
		}
	}
	for _, p := range f.Plugins {
		if p.Name != pluginBlock {
			continue
		}
		if a.Plugin == nil {
			a.Plugin = map[string]any{}
		}
		if len(p.Config) > 0 {
			a.Plugin = p.Config
		}
	}
}

func set[T comparable](to *T, value T) {
	var none T
	if value != none {
		*to = value
	}
}
