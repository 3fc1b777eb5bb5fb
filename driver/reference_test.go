package driver

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"nomad-driver-virt/doctest"
)

// The reference tables of docs/ are made here: of the schemas, of what is written
// of each attribute in reference_plugin_test.go and reference_task_test.go, and of
// what the driver itself says to a wrong value.

// attribute is what the documentation says of an attribute or a block.
type attribute struct {
	path    string // in the schema: disk.source.image
	initial string // what it is if it is left out
	example string // a value; none for blocks
	meaning string
	wrong   string // a configuration that is refused because of it
	never   string // why nothing that it may say is refused, where nothing is
}

// referenceTable is a table of a page: the attributes whose paths begin with it.
type referenceTable struct {
	name  string // in the page's marks
	below string // the block's path, "" for what stands on top
	rows  []attribute
}

// reference is one of the two configurations, and its page.
type reference struct {
	page    string
	schema  *hclspec.Spec
	tables  []referenceTable
	refusal func(t *testing.T, config string) []string // what is wrong with a configuration
	accepts func(config string) error                  // whether the schema takes it
}

func references() []reference {
	return []reference{
		{page: "plugin-configuration", schema: configSpec, tables: pluginTables, refusal: pluginRefusal,
			accepts: func(config string) error { return acceptedBy(configSpec, config) }},
		{page: "task-configuration", schema: taskConfigSpec, tables: taskTables, refusal: taskRefusal,
			accepts: func(config string) error { return acceptedBy(taskConfigSpec, config) }},
	}
}

func TestReferenceIsWhatTheCodeSays(t *testing.T) {
	for _, r := range references() {
		t.Run(r.page, func(t *testing.T) {
			kinds := make(map[string]string)
			kindsOf(r.schema, "", kinds)
			told := make(map[string]bool)
			var tables []doctest.Section
			for _, table := range r.tables {
				text := table.markdown(t, r, kinds, told)
				tables = append(tables, doctest.Section{Name: "table " + table.name, Text: text})
			}
			for _, path := range slices.Sorted(maps.Keys(kinds)) {
				if !told[path] {
					t.Errorf("%s is in the schema, and the reference has no row of it", path)
				}
			}
			doctest.Page(t, "../docs/"+r.page+".md", *update, tables...)
		})
	}
}

func (table referenceTable) markdown(t *testing.T, r reference, kinds map[string]string, told map[string]bool) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("| attribute | type | default | example | meaning |\n|---|---|---|---|---|\n")
	for _, a := range table.rows {
		kind, isThere := kinds[a.path]
		switch {
		case !isThere:
			t.Errorf("%s has a row in the reference, and is not in the schema", a.path)
			continue
		case told[a.path]:
			t.Errorf("%s has two rows in the reference", a.path)
		case a.meaning == "" || a.initial == "":
			t.Errorf("%s has a row in the reference without its meaning or its default", a.path)
		}
		told[a.path] = true
		name := strings.TrimPrefix(strings.TrimPrefix(a.path, table.below), ".")
		if name == "" {
			name = a.path
		}
		if strings.HasSuffix(kind, "block map") {
			name += ` "NAME"`
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", name, strings.TrimSuffix(kind, " map"), doctest.Cell(a.initial),
			a.exampleCell(t, r, kind), doctest.Cell(a.meaning)+a.errorCell(t, r))
	}
	return b.String()
}

// exampleCell shows the example, after the schema has taken it.
func (a attribute) exampleCell(t *testing.T, r reference, kind string) string {
	t.Helper()
	if strings.Contains(kind, "block") {
		return ""
	}
	if a.example == "" {
		t.Errorf("%s has no example", a.path)
	}
	path := strings.Split(a.path, ".")
	config := path[len(path)-1] + " = " + a.example
	for i := len(path) - 2; i >= 0; i-- {
		label := ""
		if path[i] == "directory" || path[i] == "ceph" {
			label = ` "name"`
		}
		config = path[i] + label + " {\n" + config + "\n}"
	}
	if err := r.accepts(config); err != nil {
		t.Errorf("the example of %s is refused by the schema: %v\n%s", a.path, err, config)
	}
	return doctest.Code(a.example)
}

// errorCell shows what is said to the wrong value.
func (a attribute) errorCell(t *testing.T, r reference) string {
	t.Helper()
	if a.wrong == "" {
		if a.never == "" {
			t.Errorf("%s has neither a wrong value nor a reason why there is none", a.path)
		}
		return ""
	}
	if a.never != "" {
		t.Errorf("%s has a wrong value and a reason why there is none", a.path)
	}
	said := r.refusal(t, a.wrong)
	if len(said) != 1 {
		t.Errorf("the wrong value of %s has %d problems, want one: %q", a.path, len(said), said)
		return ""
	}
	return "<br>Error: " + doctest.Code(said[0])
}

// kindsOf collects the types of all that a schema has, by path.
func kindsOf(spec *hclspec.Spec, path string, kinds map[string]string) {
	named := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch s := spec.GetBlock().(type) {
	case *hclspec.Spec_Object:
		for _, inner := range s.Object.GetAttributes() {
			kindsOf(inner, path, kinds)
		}
	case *hclspec.Spec_Attr:
		kinds[named(s.Attr.GetName())] = s.Attr.GetType()
	case *hclspec.Spec_BlockValue:
		kinds[named(s.BlockValue.GetName())] = "block"
		kindsOf(s.BlockValue.GetNested(), named(s.BlockValue.GetName()), kinds)
	case *hclspec.Spec_BlockList:
		kinds[named(s.BlockList.GetName())] = "blocks"
		kindsOf(s.BlockList.GetNested(), named(s.BlockList.GetName()), kinds)
	case *hclspec.Spec_BlockMap:
		kinds[named(s.BlockMap.GetName())] = "block map"
		kindsOf(s.BlockMap.GetNested(), named(s.BlockMap.GetName()), kinds)
	default:
		panic(fmt.Sprintf("the schema has a %T at %s", s, path))
	}
}
