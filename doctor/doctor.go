// Package doctor looks at a host, and says what is in the way of VMs on it. Gather
// reads what there is to know, and changes nothing; Examine judges it, and is pure.
package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"nomad-driver-virt/rbd"
	"nomad-driver-virt/vm"
)

// Settings is what the agent's configuration says, or its defaults.
type Settings struct {
	Agent  *Agent // nil: no file of the agent's was named, or could be read
	Unread error  // why the named files could not be read; then the rest is defaults
	// Wrong is what keeps the plugin's configuration from being taken, and Warnings
	// are about old names in it.
	Wrong    error
	Warnings []string

	URI, User, Password string // of libvirt
	NWFilter            string // of all VMs; "": none
	Acceleration        string
	Directories         []string // that hold images and user data
	Pools               []Pool
}

// Agent is what matters of a Nomad agent.
type Agent struct {
	Files            []string
	Client           bool // whether it runs tasks
	HasPlugin        bool // whether it has a block for this plugin
	DataDir          string
	PluginDir        string
	MaxKillTimeout   string
	Reserved, Memory vm.Bytes // 0: nothing is, and as much as the host has
}

// Pool is a storage pool of the configuration's: a directory, or a pool of Ceph's.
type Pool struct {
	Name, Path string
	Ceph       *rbd.Pool
}

// Status is how well something is.
type Status string

// Statuses, the best first.
const (
	OK      Status = "ok"
	Warning Status = "warning" // VMs run, and not as well as they could
	Problem Status = "problem" // some VMs or all do not run, or are harmed
)

// Finding is one thing that was looked at.
type Finding struct {
	Status  Status `json:"status"`
	Subject string `json:"subject"`
	Found   string `json:"found"`
	Mend    string `json:"mend,omitempty"` // a command, or what to write where
}

// Worst is the worst status of some findings.
func Worst(all []Finding) Status {
	worst := OK
	for _, f := range all {
		if f.Status == Problem || f.Status == Warning && worst == OK {
			worst = f.Status
		}
	}
	return worst
}

// oneLine is a text without line breaks: errors that were joined have some.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

// Print writes a line for each finding.
func Print(w io.Writer, all []Finding) error {
	width := 0
	for _, f := range all {
		width = max(width, len(f.Subject))
	}
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%-7s  %-*s  %s", f.Status, width, f.Subject, oneLine(f.Found))
		if f.Mend != "" {
			fmt.Fprintf(&b, "; to mend: %s", oneLine(f.Mend))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// PrintJSON writes the findings, and the worst of their statuses.
func PrintJSON(w io.Writer, all []Finding) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(struct {
		Status   Status    `json:"status"`
		Findings []Finding `json:"findings"`
	}{Worst(all), all})
}
