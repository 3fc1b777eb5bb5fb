package driver

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
	"github.com/zclconf/go-cty/cty"
)

// mountsFor takes the volumes that a task mounts for what the task does with them, and
// says what of them only the node can tell. Where a destination is not known, it is
// taken for one that a disk needs and no other mount has. The paths are those of
// attributes whose values are not known.
func mountsFor(group *api.TaskGroup, task *api.Task, variables map[string]cty.Value, asked TaskConfig, unknown []string) (mounts []mount, unchecked []string) {
	var p problems
	anywhere := 0 // those whose destinations are not known
	for _, m := range task.VolumeMounts {
		name, _ := filledIn(valueOf(m.Volume), task, variables)
		destination, known := filledIn(valueOf(m.Destination), task, variables)
		path := fmt.Sprintf("volume_mount with the destination %q", destination)
		if !known {
			anywhere++
			p.addf(path, clientFillsIn)
			continue
		}
		found := mount{taskPath: destination, hostPath: "/" + name, readOnly: valueOf(m.ReadOnly)}
		if volume, is := group.Volumes[name]; is {
			found.readOnly = found.readOnly || volume.ReadOnly
		}
		kind := "a directory"
		if slices.ContainsFunc(asked.Disks, func(d Disk) bool { return d.Volume == destination }) {
			found.kind, kind = mountsDevice, "a block device"
		}
		p.addf(path, "whether volume %q is %s", name, kind)
		mounts = append(mounts, found)
	}
	for i, d := range asked.Disks {
		isKnown := !slices.Contains(unknown, indexed("config.disk", i)+".volume")
		if anywhere > 0 && d.Volume != "" && isKnown && mountOf(mounts, d) == nil {
			mounts = append(mounts, mount{taskPath: d.Volume, kind: mountsDevice})
			anywhere--
		}
	}
	return mounts, p
}

// namedInText is how the client finds variables where no HCL is evaluated.
var namedInText = regexp.MustCompile(`\$\{[a-zA-Z0-9_.-]+\}`)

// filledIn is a text with the values of the variables that it names, and whether all
// of these are known. What is no variable stays as it stands, as the client leaves it.
func filledIn(text string, task *api.Task, variables map[string]cty.Value) (filled string, known bool) {
	known = true
	filled = namedInText.ReplaceAllStringFunc(text, func(named string) string {
		name := named[len("${") : len(named)-len("}")]
		if value, is := variables[name]; is && value.IsKnown() {
			return value.AsString()
		}
		root, _, _ := strings.Cut(name, ".")
		if _, is := variables[root]; is || mayBeThere(name, task) {
			known = false
		}
		return named
	})
	return filled, known
}
