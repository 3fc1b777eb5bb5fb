package driver

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/v2/hcldec"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/hashicorp/nomad/helper/pluginutils/hclspecutils"
	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/nomad/structs/config"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/msgpack"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares a value, as JSON, with a file of testdata.
func golden(t *testing.T, name string, value any) {
	t.Helper()
	got, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", path, diff)
	}
}

// warnings is what a driver warned of.
type warnings []string

// Accept is called by the logger.
func (w *warnings) Accept(_ string, level hclog.Level, message string, _ ...any) {
	if level == hclog.Warn {
		*w = append(*w, message)
	}
}

// newDriver returns a driver that was configured by nobody yet, and what it
// will warn of.
func newDriver(t *testing.T) (*Driver, *warnings) {
	t.Helper()
	w := new(warnings)
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard})
	logger.RegisterSink(w)
	return New(t.Context(), "0.0.0-test", logger), w
}

// setConfig hands a driver the plugin's configuration the way a Nomad agent
// does: HCL 1 into maps, these by the driver's schema into MessagePack.
func setConfig(d *Driver, content string) error {
	var agent struct {
		Plugins []*config.PluginConfig `hcl:"plugin"`
	}
	if err := hcl.Decode(&agent, `plugin "nomad-driver-virt" { config { `+content+"\n} }"); err != nil {
		return err
	}
	value, err := decodeBySchema(configSpec, agent.Plugins[0].Config)
	if err != nil {
		return err
	}
	encoded, err := msgpack.Marshal(value, value.Type())
	if err != nil {
		return err
	}
	return d.SetConfig(&base.Config{PluginConfig: encoded})
}

// decodeTask hands a driver the config block of a job file the way a Nomad
// client does. (A job file is HCL 2, and comes out of its parser in the same
// maps as HCL 1.)
func decodeTask(d *Driver, content string) (TaskConfig, error) {
	var task struct {
		Config map[string]any `hcl:"config"`
	}
	if err := hcl.Decode(&task, "config { "+content+"\n}"); err != nil {
		return TaskConfig{}, err
	}
	value, err := decodeBySchema(taskConfigSpec, task.Config)
	if err != nil {
		return TaskConfig{}, err
	}
	cfg := nomadTask()
	if err := cfg.EncodeDriverConfig(value); err != nil {
		return TaskConfig{}, err
	}
	return d.decode(cfg)
}

// decodeBySchema does what Nomad does with every configuration of a plugin.
func decodeBySchema(schema *hclspec.Spec, content map[string]any) (cty.Value, error) {
	spec, diags := hclspecutils.Convert(schema)
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	document, err := json.Marshal(content)
	if err != nil {
		return cty.NilVal, err
	}
	file, diags := hcljson.Parse(document, "")
	if diags.HasErrors() {
		return cty.NilVal, diags
	}
	value, diags := hcldec.Decode(file.Body, spec, nil)
	var errs []error
	for _, d := range diags { // the places they name are those of the document
		errs = append(errs, errors.New(d.Summary+": "+d.Detail))
	}
	return value, errors.Join(errs...)
}

// nomadTask is a task as Nomad asks for it to be started.
func nomadTask() *drivers.TaskConfig {
	const alloc = "c20ee15a-6d3c-4a9e-8f3e-2b1f0d4c7a55"
	return &drivers.TaskConfig{
		ID:            alloc + "/virt-task/5a6e215e",
		JobName:       "python-server",
		JobID:         "python-server",
		TaskGroupName: "virt-group",
		Name:          "virt-task",
		Namespace:     "default",
		NodeName:      "node",
		NodeID:        "1f3b8a52-7c86-4f0e-9f35-0d6a2f8f2c11",
		AllocID:       alloc,
		AllocDir:      "/var/lib/nomad/alloc/" + alloc,
		Env:           map[string]string{"NOMAD_TASK_NAME": "virt-task"},
		Resources: &drivers.Resources{
			NomadResources: &structs.AllocatedTaskResources{Memory: structs.AllocatedMemoryResources{MemoryMB: 1024}},
			LinuxResources: &drivers.LinuxResources{CpusetCpus: "2"},
			Ports: &structs.AllocatedPorts{
				{Label: "http", Value: 25000, To: 8000, HostIP: "192.0.2.10"},
				{Label: "ssh", Value: 25001, HostIP: "127.0.0.1"},
				{Label: "http6", Value: 25002, To: 8000, HostIP: "2001:db8::10"},
			},
		},
	}
}

// diffError compares an error with what it has to say; "" stands for no error.
func diffError(want string, err error) string {
	got := ""
	if err != nil {
		got = err.Error()
	}
	return cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
}

const testDeadline = 20 * time.Second

// deadline bounds what a test waits for.
func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}
