package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "nomad-driver-virt"

// internal lists the packages of the plugin, and what each may import of it.
// Dependencies run one way: main, driver, what does I/O, domxml, vm.
var internal = map[string]struct {
	may    []string
	reason string
}{
	"":          {[]string{"cli", "driver"}, "it serves the plugin, or a person, and knows nothing else"},
	"cli":       {[]string{"agentfile", "doctor", "driver", "hypervisor", "vm"}, "its commands bring together what others know"},
	"doctor":    {[]string{"domxml", "hostfile", "hypervisor", "kmsg", "rbd", "systemd", "vm"}, "it asks the host, and knows nothing of Nomad"},
	"agentfile": {nil, "it reads files, and knows nothing of what they are for"},
	"driver": {[]string{"bridge", "cloudinit", "console", "dhcp", "domxml", "hostfile", "hypervisor", "image", "portmap", "rbd", "share", "storage", "systemd", "turns", "vm"},
		"it brings all together"},
	"storage":    {[]string{"hostfile", "image", "memfile", "rbd", "turns", "vm"}, "it makes disks, by whatever a pool takes"},
	"hypervisor": {[]string{"domxml", "kmsg", "turns", "vm"}, "it sends the XML and fetches it"},
	"hypervisor/hypervisortest": {[]string{"domxml", "hypervisor", "vm"},
		"it stands in for hypervisor in tests, which alone import it"},
	"image":     {[]string{"child", "memfile", "turns", "vm"}, "it fills volumes, whoever made them"},
	"rbd":       {[]string{"child", "memfile", "vm"}, "it speaks to Ceph, whatever the volumes are for"},
	"portmap":   {[]string{"vm"}, "it publishes ports, whatever answers behind them"},
	"bridge":    {nil, "it joins devices, whoever uses them"},
	"dhcp":      {[]string{"vm"}, "it speaks to DHCP servers, whoever had the leases"},
	"console":   {nil, "it copies text, and knows VMs by their names alone"},
	"share":     {[]string{"vm"}, "it mounts directories, whoever shows them"},
	"cloudinit": {[]string{"memfile", "vm"}, "it computes documents, and knows no VM's disks"},
	"domxml":    {[]string{"vm"}, "it is pure"},
	"hostfile":  {[]string{"vm"}, "it judges paths, and need not know what for"},
	"child":     {nil, "it runs programs, and knows none"},
	"memfile":   {nil, "it knows bytes, and not what they are"},
	"systemd":   {nil, "it asks one question"},
	"kmsg":      {nil, "it reads messages, whatever they are about"},
	"turns":     {nil, "it knows names, and not of what"},
	"vm":        {nil, "it is what all the others share"},
	"doctest":   {nil, "it writes pages for tests, which alone import it"},
}

// external lists the imports that only some packages may have.
var external = []struct {
	path   string // it and all below it
	only   []string
	reason string
}{
	{"github.com/digitalocean/go-libvirt", []string{"hypervisor"}, "one place that connects to libvirt, and deadlines around every call"},
	{"libvirt.org/go/libvirtxml", []string{"domxml"}, "one place that knows libvirt's XML"},
	{"github.com/insomniacslk/dhcp", []string{"dhcp"}, "one place that knows DHCP"},
	{"github.com/hashicorp/nomad", []string{"", "cli", "driver"}, "a VM is made without Nomad"},
	{"C", nil, "one static binary, and no library of Ceph's or libvirt's to match"},
	{"os/exec", []string{"child", "doctor", "image", "portmap", "rbd"}, "what runs programs of the host is easy to find"},
}

func TestDependenciesRunOneWay(t *testing.T) {
	for _, p := range packages(t) {
		rule, listed := internal[p.name()]
		if !listed {
			t.Errorf("package %s is not in the table: say what it may import, and why", p.ImportPath)
		}
		for _, imported := range p.Imports {
			name, own := strings.CutPrefix(imported, module+"/")
			if own && !slices.Contains(rule.may, name) {
				t.Errorf("%s imports %s, and may import %q of the plugin: %s", p.ImportPath, imported, rule.may, rule.reason)
			}
			if p.name() == "vm" && !isStandard(imported) {
				t.Errorf("vm imports %s, and may import the standard library alone: %s", imported, rule.reason)
			}
		}
	}
}

func TestWhatKnowsTheWorldIsInItsPlace(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range external {
			for _, imported := range p.Imports {
				below := imported == rule.path || strings.HasPrefix(imported, rule.path+"/")
				if below && !slices.Contains(rule.only, p.name()) {
					t.Errorf("%s imports %s, and only %q may: %s", p.ImportPath, imported, rule.only, rule.reason)
				}
			}
		}
	}
}

// goPackage is what go list tells of a package; Imports are not its tests'.
type goPackage struct {
	ImportPath string
	Imports    []string
}

// name is the package's directory in the module, "" for the root.
func (p goPackage) name() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// packages lists the packages that are in the plugin; those of the lab and of
// the end-to-end tests are beside it.
func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		top, _, _ := strings.Cut(p.name(), "/")
		if top != "lab" && top != "e2e" {
			all = append(all, p)
		}
	}
}

// isStandard: paths of the standard library have no domain.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && first != module
}
