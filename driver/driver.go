// Package driver is Nomad's side of the plugin: its configuration, the plan
// that turns a job's configuration into a VM, and the lives of tasks. It is the
// only package that imports Nomad.
package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/nomad/client/lib/cpustats"
	"github.com/hashicorp/nomad/drivers/shared/eventer"
	"github.com/hashicorp/nomad/plugins/base"
	"github.com/hashicorp/nomad/plugins/drivers"
	"github.com/hashicorp/nomad/plugins/drivers/fsisolation"
	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/image"
)

const (
	pluginName  = "virt"
	pluginBlock = "nomad-driver-virt" // the name of the binary, and so of the agent's plugin block
)

// Driver implements Nomad's drivers.DriverPlugin.
type Driver struct {
	drivers.DriverExecTaskNotSupported

	version string
	logger  hclog.Logger
	events  *eventer.Eventer
	digests image.Digests
	around  around
	settled chan struct{} // where some ports lead is known now
	// orphansAfter is how long a VM may belong to no task; 0: as the configuration
	// says, which cannot say so little as tests do.
	orphansAfter time.Duration

	ctx context.Context // of everything that outlives the call that began it

	mu       sync.Mutex // guards the fields below
	config   Config
	machines *machines
	tasks    map[string]*task       // by Nomad's task ID
	starting map[string]int         // by VM: starts of tasks that are under way
	making   []domxml.Interface     // of VMs that are being made, whose hardware addresses their jobs chose
	node     string                 // this client's ID; "" before a task has told it
	users    int                    // streams of fingerprints that are open
	untold   map[allocTask][]string // events of tasks that were not recovered
	compute  cpustats.Compute       // what its CPUs can do
}

// New returns the driver of a plugin of some version. It does nothing before
// Nomad has given it a configuration, and ends what it does with the context.
func New(ctx context.Context, version string, logger hclog.Logger) *Driver {
	logger = logger.Named(pluginName)
	return &Driver{
		version: version,
		logger:  logger,
		events:  eventer.NewEventer(ctx, logger),
		around:  realHost(),
		settled: make(chan struct{}, 1),
		ctx:     ctx,
		tasks:   make(map[string]*task),

		starting: make(map[string]int),
		untold:   make(map[allocTask][]string),
	}
}

// PluginInfo tells Nomad what this plugin is.
func (d *Driver) PluginInfo() (*base.PluginInfoResponse, error) {
	return &base.PluginInfoResponse{
		Type:              base.PluginTypeDriver,
		PluginApiVersions: []string{drivers.ApiVersion010},
		PluginVersion:     d.version,
		Name:              pluginName,
	}, nil
}

// ConfigSchema is the schema of the plugin's configuration.
func (d *Driver) ConfigSchema() (*hclspec.Spec, error) { return configSpec, nil }

// TaskConfigSchema is the schema of a task's configuration.
func (d *Driver) TaskConfigSchema() (*hclspec.Spec, error) { return taskConfigSpec, nil }

// SetConfig takes the plugin's configuration. An error keeps the whole Nomad
// agent from starting, so there is one only for what is wrong in the
// configuration itself: what the host lacks makes the driver unhealthy. Nomad
// also calls it in processes that check the configuration and run no task, so
// nothing is connected to or made here.
func (d *Driver) SetConfig(c *base.Config) error {
	config, warnings, err := decodeConfig(c.PluginConfig)
	for _, w := range warnings {
		d.logger.Warn("the plugin's configuration: " + w)
	}
	if err != nil {
		return err
	}
	host, err := d.around.libvirt(*config.Provider.Libvirt)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config, d.compute = config, c.AgentConfig.Compute()
	m := &machines{
		host:     host,
		store:    newStore(config, host),
		ports:    d.around.ports,
		shares:   d.around.shares,
		consoles: d.around.consoles,
		lan:      d.around.lan,
		runtime:  d.around.runtime,
		release:  d.around.release,
		journals: make(map[string]remembered),
		stats:    &sampler{read: host.Stats},
	}
	m.again = func(name string, end end, tell teller) { go d.removeLater(m, name, end, tell) }
	m.warn = d.logger.Warn
	d.machines = m
	return nil
}

// Capabilities tells what this driver can do. FSIsolation is "image" because a
// guest has a file system of its own; with it NOMAD_TASK_DIR is /local.
func (d *Driver) Capabilities() (*drivers.Capabilities, error) {
	return &drivers.Capabilities{
		SendSignals:       true,
		FSIsolation:       fsisolation.Image,
		NetIsolationModes: []drivers.NetIsolationMode{drivers.NetIsolationModeHost},
		MountConfigs:      drivers.MountConfigSupportAll,
	}, nil
}

// connected returns the configuration and what makes VMs, after it saw to it
// that the connection to libvirt is kept up.
func (d *Driver) connected() (Config, *machines) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.machines.connect.Do(func() {
		go d.machines.host.Run(d.ctx)
		go d.sweep(d.ctx, d.machines)
		go d.keepNetworks(d.ctx, d.machines)
		configured, _ := time.ParseDuration(d.config.RemoveOrphansAfter) // it was validated
		go d.removeOrphans(d.ctx, d.machines, cmp.Or(d.orphansAfter, configured))
	})
	return d.config, d.machines
}

// TaskEvents is the stream of what Nomad shows in a task's events.
func (d *Driver) TaskEvents(ctx context.Context) (<-chan *drivers.TaskEvent, error) {
	return d.events.TaskEvents(ctx)
}

// tell writes an event of a task. Nomad keeps the last ten of each task.
func (d *Driver) tell(cfg *drivers.TaskConfig, format string, args ...any) {
	event := &drivers.TaskEvent{
		TaskID:    cfg.ID,
		TaskName:  cfg.Name,
		AllocID:   cfg.AllocID,
		Timestamp: time.Now(),
		Message:   fmt.Sprintf(format, args...),
	}
	if err := d.events.EmitEvent(event); err != nil {
		d.logger.Warn("a task's event was lost", "event", event.Message, "error", err)
	}
}

// teller is tell of one task.
func (d *Driver) teller(cfg *drivers.TaskConfig) teller {
	return func(format string, args ...any) { d.tell(cfg, format, args...) }
}

// warner is teller for what is to be in the log as well: nobody may see the task's
// events any more.
func (d *Driver) warner(cfg *drivers.TaskConfig) teller {
	return func(format string, args ...any) {
		d.logger.Warn(fmt.Sprintf(format, args...), "task", cfg.ID)
		d.tell(cfg, format, args...)
	}
}

func (d *Driver) task(id string) (*task, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.tasks[id]; ok {
		return t, nil
	}
	return nil, drivers.ErrTaskNotFound
}

// follow makes a task known and follows its VM to the end.
func (d *Driver) follow(t *task, m *machines) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tasks[t.cfg.ID] = t
	t.hostStops = d.around.stopping
	go d.followLogs(t, m.consoles)
	go func() {
		_, _ = m.learn(d.ctx, t.vm) // where it fails, less is known at the end
		t.follow(d.ctx, m.host, d.teller(t.cfg))
	}()
}

// WaitTask delivers how a task ended.
func (d *Driver) WaitTask(ctx context.Context, id string) (<-chan *drivers.ExitResult, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	results := make(chan *drivers.ExitResult, 1)
	go func() {
		defer close(results)
		select {
		case <-t.ended:
			results <- t.result()
		case <-ctx.Done():
		case <-d.ctx.Done():
		}
	}()
	return results, nil
}

// DestroyTask removes all of a task's VM. Nomad forgets the task whatever this
// returns, so what cannot be removed now is tried again until it can.
func (d *Driver) DestroyTask(id string, force bool) error {
	t, err := d.task(id)
	if err != nil {
		return err
	}
	if t.running() && !force {
		return errors.New("cannot destroy a task that runs")
	}
	t.noteDestroyed()
	_, machines := d.connected()
	if !t.running() {
		t.waitLogged(d.ctx)
	}
	if _, err := machines.journal(d.ctx, t.vm); errors.Is(err, hypervisor.ErrNoDomain) {
		d.releaseGone(machines, t.vm, t.cfg)
	}
	err = machines.discard(d.ctx, t.vm, ended, d.warner(t.cfg))
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tasks, id)
	return err
}

// removeEvery is how often it is tried to remove what could not be.
const removeEvery = 15 * time.Second

func (d *Driver) removeLater(m *machines, name string, end end, tell teller) {
	defer d.starts(name, "")() // it is no orphan
	d.logger.Error("a VM could not be removed; it is tried again", "vm", name, "every", removeEvery.String())
	var last news
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-time.After(removeEvery):
		}
		err := m.remove(d.ctx, name, end, tell)
		if err == nil {
			d.logger.Info("a VM that could not be removed is removed now", "vm", name)
			return
		}
		if last.is(err, time.Now()) {
			d.logger.Warn("a VM still cannot be removed", "vm", name, "error", err)
		}
	}
}

// InspectTask tells the state of a task.
func (d *Driver) InspectTask(id string) (*drivers.TaskStatus, error) {
	t, err := d.task(id)
	if err != nil {
		return nil, err
	}
	return t.status(), nil
}
