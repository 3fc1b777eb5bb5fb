package cli

import (
	"flag"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"nomad-driver-virt/doctest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// field is what is to be known of a field that a command prints for machines.
type field struct{ name, meaning string }

const (
	bytesUnknown = "bytes; 0: not known"
	sinceQEMU    = ", since QEMU began; 0: none, or not known"
)

var (
	ofVerdict = []field{
		{"job", "ID of the job"},
		{"tasks", "the tasks that ask for this driver"},
		{"tasks[].group", "name of the task's group"},
		{"tasks[].task", "name of the task"},
		{"tasks[].problems", "what is refused; none: empty"},
		{"tasks[].warnings", "old names; none: empty"},
		{"tasks[].unchecked", "what only a node can tell; none: empty"},
	}
	ofListed = []field{
		{"vm", "libvirt's name of the domain"},
		{"state", "as virsh has it: `running`, `paused`, `paused by a disk error`, `in shutdown`, `shut off`, `crashed`, `asleep`; `unknown`: libvirt did not say"},
		{"node", "ID of the Nomad client whose VM it is; `\"\"`, here and of what follows: the domain's metadata cannot be read"},
		{"namespace", "of the job"},
		{"job", "ID of the job"},
		{"group", "name of the task's group"},
		{"alloc", "whole ID of the allocation"},
		{"task", "name of the task"},
		{"task_id", "Nomad's ID of this run of the task"},
	}
	ofMeasured = []field{
		{"cpu_percent", "percent of one core, over `-interval`, of QEMU with all that it does; 0: none, or not known"},
		{"cpu_time", "nanoseconds" + sinceQEMU},
		{"vcpus", "number of them; 0: not known"},
		{"rss", "resident memory of QEMU, " + bytesUnknown},
		{"memory", "that the guest has, " + bytesUnknown},
		{"guest_used", "of that, what the guest uses, bytes; null: the guest does not say"},
		{"disks", "the disks, cloud-init's among them; not known: empty"},
		{"disks[].name", "libvirt's, `vda`; guests may call them otherwise"},
		{"disks[].read", "bytes" + sinceQEMU},
		{"disks[].written", "bytes" + sinceQEMU},
		{"disks[].reads", "requests" + sinceQEMU},
		{"disks[].writes", "requests" + sinceQEMU},
		{"disks[].capacity", "size that the guest sees, " + bytesUnknown},
		{"disks[].allocated", "what it takes in its pool, " + bytesUnknown},
		{"interfaces", "the network interfaces; not known: empty"},
		{"interfaces[].name", "of the host's device, `vnet0`"},
		{"interfaces[].received", "bytes that the guest received" + sinceQEMU},
		{"interfaces[].sent", "bytes that the guest sent" + sinceQEMU},
		{"interfaces[].received_dropped", "packets that were lost on their way to the guest" + sinceQEMU},
		{"interfaces[].sent_dropped", "packets that were lost on their way from it" + sinceQEMU},
	}
)

// What commands print for machines is documented, field by field.
func TestFieldsForMachinesAreDocumented(t *testing.T) {
	var sections []doctest.Section
	for _, of := range []struct {
		command string
		printed any
		fields  []field
		before  []field // of a struct that it begins with
	}{
		{"validate", verdict{}, ofVerdict, nil},
		{"list", listedVM{}, ofListed, nil},
		{"stats", measured{}, ofMeasured, ofListed},
	} {
		types := make(map[string]string)
		typesOf(t, reflect.TypeOf(of.printed), "", types)
		var table strings.Builder
		table.WriteString("| field | type | what it is |\n|---|---|---|\n")
		for _, f := range of.fields {
			if types[f.name] == "" {
				t.Errorf("%s -json has no field %s any more: who reads it relies on it", of.command, f.name)
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", f.name, types[f.name], f.meaning)
			delete(types, f.name)
		}
		for _, f := range of.before {
			delete(types, f.name)
		}
		for name := range types {
			t.Errorf("%s -json has a field %s: say here what it is", of.command, name)
		}
		sections = append(sections, doctest.Section{Name: "fields of " + of.command + " -json", Text: table.String()})
	}
	doctest.Page(t, "../docs/commands.md", *update, sections...)
}

// typesOf finds the fields that a struct has in JSON, and their types there.
func typesOf(t *testing.T, of reflect.Type, below string, types map[string]string) {
	t.Helper()
	for _, f := range reflect.VisibleFields(of) {
		if f.Anonymous {
			continue // its fields are among them
		}
		name := f.Tag.Get("json")
		if name == "" || strings.Contains(name, ",") {
			t.Fatalf("%s.%s has the tag %q for JSON, want a name alone: no field is ever missing", of, f.Name, name)
		}
		types[below+name] = typeOf(t, f.Type)
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			typesOf(t, f.Type.Elem(), below+name+"[].", types)
		}
	}
}

func typeOf(t *testing.T, of reflect.Type) string {
	t.Helper()
	switch of.Kind() {
	case reflect.String:
		return "string"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer"
	case reflect.Float64:
		return "number"
	case reflect.Pointer:
		return typeOf(t, of.Elem()) + " or null"
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Struct {
			return "list of objects"
		}
		return "list of " + typeOf(t, of.Elem()) + "s"
	default:
		t.Fatalf("there is no name for the type %s", of)
		return ""
	}
}
