package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/nomad/api"
	"github.com/hashicorp/nomad/jobspec2"

	"nomad-driver-virt/agentfile"
	"nomad-driver-virt/driver"
)

const validateHelp = `Usage: nomad-driver-virt validate [options] JOB.hcl

Says what the driver would refuse in the tasks of a job, all of it at once, by the
plan that the start of the task would make. What only a node can tell is said to be
unchecked. JOB.hcl is a job file, or - for standard input. "nomad job validate" judges
all that is not the driver's.

  -config PATH         configuration of the Nomad agents that the job is for: a file,
                       or a directory of them; may be repeated. Its pools are checked.
  -var NAME=VALUE      a variable of the job file; may be repeated
  -var-file PATH       a file of variables; may be repeated
  -json                print JSON

Exit status: 0 nothing is refused, 1 something is, 2 nothing was judged: the command
line is wrong, or the job file or the configuration cannot be read.
`

// verdict is what validate prints as JSON.
type verdict struct {
	Job   string        `json:"job"`
	Tasks []taskVerdict `json:"tasks"`
}

type taskVerdict struct {
	Group     string   `json:"group"`
	Task      string   `json:"task"`
	Problems  []string `json:"problems"`
	Warnings  []string `json:"warnings"`
	Unchecked []string `json:"unchecked"`
}

func runValidate(_ context.Context, s Streams, flags *flag.FlagSet, args []string) error {
	var configs, vars, varFiles several
	flags.Var(&configs, "config", "")
	flags.Var(&vars, "var", "")
	flags.Var(&varFiles, "var-file", "")
	asJSON := flags.Bool("json", false, "")
	rest, err := parse(flags, args, 1, 1)
	if err != nil {
		return err
	}
	config, err := configOf(configs)
	if err != nil {
		return unreadError{err}
	}
	job, err := readJob(s.In, rest[0], vars, varFiles)
	if err != nil {
		return unreadError{err}
	}
	v := verdict{Job: *job.ID, Tasks: []taskVerdict{}}
	refused := false
	for _, check := range driver.CheckJob(job, config) {
		refused = refused || len(check.Problems) > 0
		v.Tasks = append(v.Tasks, taskVerdict{
			check.Group, check.Task, listed(check.Problems), listed(check.Warnings), listed(check.Unchecked),
		})
	}
	if *asJSON {
		err = printJSON(s.Out, v)
	} else {
		fmt.Fprint(s.Out, v)
	}
	if err == nil && refused {
		err = errSaid
	}
	return err
}

// configOf reads the plugin's configuration from an agent's files; nil: none are
// named.
func configOf(paths []string) (*driver.Config, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	agent, err := agentfile.Read(driver.PluginBlock, paths...)
	if err != nil {
		return nil, err
	}
	if agent.Plugin == nil {
		return nil, fmt.Errorf("%s has no block plugin %q", strings.Join(paths, ", "), driver.PluginBlock)
	}
	config, _, err := driver.ReadConfig(agent.Plugin)
	return &config, err
}

// readJob reads a job file as nomad job run does.
func readJob(stdin io.Reader, path string, vars, varFiles []string) (*api.Job, error) {
	read, name := func() ([]byte, error) { return os.ReadFile(path) }, path
	if path == "-" {
		read, name = func() ([]byte, error) { return io.ReadAll(stdin) }, "standard input"
	}
	body, err := read()
	if err != nil {
		return nil, err
	}
	job, err := jobspec2.ParseWithConfig(&jobspec2.ParseConfig{
		Path:     name,
		BaseDir:  filepath.Dir(path),
		Body:     body,
		AllowFS:  true,
		ArgVars:  vars,
		VarFiles: varFiles,
		Envs:     os.Environ(),
		Strict:   true,
	})
	if err != nil {
		return nil, fmt.Errorf("the job file cannot be read: %w", err)
	}
	if job.ID == nil || *job.ID == "" {
		return nil, errors.New("the job file holds no job")
	}
	job.Canonicalize()
	return job, nil
}

// String is the verdict for a person.
func (v verdict) String() string {
	var b strings.Builder
	problems, unchecked := 0, 0
	for _, t := range v.Tasks {
		problems, unchecked = problems+len(t.Problems), unchecked+len(t.Unchecked)
		fmt.Fprintf(&b, "group %q, task %q\n", t.Group, t.Task)
		for _, kind := range []struct {
			name string
			all  []string
		}{{"problem", t.Problems}, {"warning", t.Warnings}, {"unchecked", t.Unchecked}} {
			for _, line := range kind.all {
				fmt.Fprintf(&b, "  %-9s  %s\n", kind.name, line)
			}
		}
	}
	switch {
	case len(v.Tasks) == 0:
		fmt.Fprintf(&b, "job %q has no task with driver = \"virt\"\n", v.Job)
	case problems == 0:
		fmt.Fprintf(&b, "job %q: the driver refuses nothing of it; unchecked: %d\n", v.Job, unchecked)
	default:
		fmt.Fprintf(&b, "job %q: the driver would refuse it; problems: %d, unchecked: %d\n", v.Job, problems, unchecked)
	}
	return b.String()
}

// listed is a list that JSON writes as one, though it is empty.
func listed(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}
