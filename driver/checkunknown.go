package driver

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/nomad/api"
	"github.com/zclconf/go-cty/cty"
)

// variablesOf are the variables that a task's configuration may name. The client
// knows them all; here most of them are there, with a value that is not known.
func variablesOf(job *api.Job, group *api.TaskGroup, task *api.Task) map[string]cty.Value {
	known := map[string]cty.Value{
		"NOMAD_TASK_NAME":   cty.StringVal(task.Name),
		"NOMAD_GROUP_NAME":  cty.StringVal(*group.Name),
		"NOMAD_JOB_NAME":    cty.StringVal(*job.Name),
		"NOMAD_JOB_ID":      cty.StringVal(*job.ID),
		"NOMAD_ALLOC_DIR":   cty.StringVal("/alloc"),
		"NOMAD_TASK_DIR":    cty.StringVal("/local"),
		"NOMAD_SECRETS_DIR": cty.StringVal("/secrets"),
	}
	for _, name := range []string{"attr", "device", "env", "meta", "node"} {
		known[name] = cty.DynamicVal
	}
	for name, value := range task.Env {
		known[name] = cty.StringVal(value)
		if strings.Contains(value, "${") {
			known[name] = cty.UnknownVal(cty.String)
		}
	}
	for _, name := range namesIn(task.Config) {
		if _, is := known[name]; !is && mayBeThere(name, task) {
			known[name] = cty.DynamicVal
		}
	}
	return known
}

// mayBeThere tells whether the client may know a variable that the job file does not.
func mayBeThere(name string, task *api.Task) bool {
	return strings.HasPrefix(name, "NOMAD_") || isOpen(task)
}

// isOpen tells whether a task's environment has variables that the job file does not
// name.
func isOpen(task *api.Task) bool {
	return task.Vault != nil || task.Consul != nil || len(task.Secrets) > 0 || len(task.Identities) > 0 ||
		slices.ContainsFunc(task.Templates, func(t *api.Template) bool { return valueOf(t.Envvars) })
}

// namesIn lists the variables that the strings of a block name.
func namesIn(block any) []string {
	var names []string
	switch b := block.(type) {
	case string:
		template, diags := hclsyntax.ParseTemplate([]byte(b), "", hcl.InitialPos)
		if diags.HasErrors() {
			return nil // whoever decodes the block tells
		}
		for _, v := range template.Variables() {
			names = append(names, v.RootName())
		}
	case []any:
		for _, v := range b {
			names = append(names, namesIn(v)...)
		}
	case []map[string]any:
		for _, v := range b {
			names = append(names, namesIn(v)...)
		}
	case map[string]any:
		for _, v := range b {
			names = append(names, namesIn(v)...)
		}
	}
	return names
}

// placeholders puts something in place of values that are not known, and tells
// whose they are, as problems name attributes. What the plan says of those is not
// to be believed.
func placeholders(value cty.Value) (cty.Value, []string) {
	var unknown []string
	filled, err := cty.Transform(value, func(path cty.Path, v cty.Value) (cty.Value, error) {
		if v.IsKnown() {
			return v, nil
		}
		unknown = append(unknown, pathOf(path))
		switch v.Type() {
		case cty.String:
			return cty.StringVal("unknown"), nil
		case cty.Number:
			return cty.NumberIntVal(1), nil
		case cty.Bool:
			return cty.False, nil
		}
		return cty.NullVal(v.Type()), nil
	})
	if err != nil {
		panic(err) // of the function above
	}
	slices.Sort(unknown) // blocks are walked in no order
	return filled, unknown
}

// pathOf writes the path of an attribute of a task's config block.
func pathOf(path cty.Path) string {
	written := "config"
	for _, step := range path {
		switch s := step.(type) {
		case cty.GetAttrStep:
			written += "." + s.Name
		case cty.IndexStep:
			if s.Key.Type() == cty.Number {
				index, _ := s.Key.AsBigFloat().Int64()
				written = indexed(written, int(index))
			} else {
				written += fmt.Sprintf("[%q]", s.Key.AsString())
			}
		}
	}
	return written
}
