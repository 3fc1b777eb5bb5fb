package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/nomad/nomad/structs"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/image"
	"nomad-driver-virt/vm"
)

// StartTask makes the VM of a task, starts it, and returns as soon as it runs:
// it does not wait for the guest to boot.
func (d *Driver) StartTask(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	handle, network, err := d.start(cfg)
	if err == nil {
		return handle, network, nil
	}
	if _, machines := d.connected(); machines.host.Health(d.ctx) != nil {
		// Worth another try: it may be about to come back.
		err = structs.NewRecoverableError(err, true)
	}
	return nil, nil, err
}

func (d *Driver) start(cfg *drivers.TaskConfig) (*drivers.TaskHandle, *drivers.DriverNetwork, error) {
	if _, err := d.task(cfg.ID); err == nil {
		return nil, nil, fmt.Errorf("task %s was started already", cfg.ID)
	}
	config, machines := d.connected()
	if err := machines.host.Health(d.ctx); err != nil {
		return nil, nil, err
	}
	task, err := d.decode(cfg)
	if err != nil {
		return nil, nil, err
	}
	files, faults := d.openFiles(d.ctx, config, task, cfg)
	defer files.close()

	facts, err := machines.host.Facts(d.ctx, "", machineOf(task))
	if errors.Is(err, hypervisor.ErrRefused) && machineOf(task) != "" {
		faults.addf("config.os.machine", "%q is no machine type of this host: %s", machineOf(task), err)
		facts, err = machines.host.Facts(d.ctx, "", "")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("could not tell what the host can do: %w", err)
	}
	spec, found := plan(request{config, task, cfg, facts, files.inspected, files.userData})
	if err := append(faults, found...).err("the task's configuration"); err != nil {
		return nil, nil, err
	}

	if err := ensurePools(d.ctx, config, machines.host); err != nil {
		return nil, nil, err
	}
	if err := machines.removeForgotten(d.ctx, spec.Owner); err != nil {
		return nil, nil, err
	}
	addrs, err := machines.create(d.ctx, spec, files.inOrderOf(spec), func(format string, args ...any) {
		d.tell(cfg, format, args...)
	})
	if err != nil {
		return nil, nil, err
	}
	network := driverNetwork(spec, addrs)
	d.tell(cfg, "Started VM %s%s%s", spec.Name, executedBy(spec.Accel), at(network))

	t := newTask(cfg, spec.Name, time.Now(), network)
	handle, err := t.handle()
	if err != nil {
		return nil, nil, errors.Join(err, machines.discard(d.ctx, spec.Name))
	}
	d.follow(t, machines)
	return handle, network, nil
}

func executedBy(a vm.Accel) string {
	if a == vm.TCG {
		return " without KVM, which is slow"
	}
	return ""
}

func at(n *drivers.DriverNetwork) string {
	if n == nil {
		return ""
	}
	return ", its address is " + n.IP
}

// decode reads a task's configuration as it is written today.
func (d *Driver) decode(cfg *drivers.TaskConfig) (TaskConfig, error) {
	var task TaskConfig
	if err := cfg.DecodeDriverConfig(&task); err != nil {
		return task, fmt.Errorf("the task's configuration cannot be read: %w", err)
	}
	task, warnings, err := task.translate()
	for _, w := range warnings {
		d.logger.Warn("the task's configuration: "+w, "job", cfg.JobID, "task", cfg.Name)
		d.tell(cfg, "In config, %s", w)
	}
	return task, err
}

func machineOf(t TaskConfig) string {
	if t.OS == nil {
		return ""
	}
	return t.OS.Machine
}

// driverNetwork is what Nomad is told of a VM's addresses: the first interface.
// Services are not to advertise it by themselves: it is private to the host.
func driverNetwork(s *vm.Spec, addrs []netip.Addr) *drivers.DriverNetwork {
	if len(addrs) == 0 {
		return nil
	}
	ports := make(map[string]int)
	for _, i := range s.Interfaces {
		for _, port := range i.Ports {
			ports[port.Label] = int(port.Guest)
		}
	}
	return &drivers.DriverNetwork{IP: addrs[0].String(), PortMap: ports}
}

// files are the files of the host that a task names, open and judged.
type files struct {
	images    []*os.File  // by disk in the job file; nil where there is none
	inspected []*vm.Image // the same
	userData  []byte
}

// openFiles opens what a task names. What cannot be had is among the problems.
func (d *Driver) openFiles(ctx context.Context, config Config, task TaskConfig, cfg *drivers.TaskConfig) (*files, problems) {
	var p problems
	f := &files{
		images:    make([]*os.File, len(task.Disks)),
		inspected: make([]*vm.Image, len(task.Disks)),
	}
	search := searchFor(cfg, config.ImagePaths)
	for i, disk := range task.Disks {
		if disk.Source == nil || disk.Source.Image == "" {
			continue
		}
		path := indexed("config.disk", i) + ".source.image"
		file, err := search.Open(disk.Source.Image)
		if err != nil {
			p.addf(path, "%s", err)
			continue
		}
		f.images[i] = file
		inspected, err := image.Inspect(file, disk.Source.Format)
		if err == nil && disk.Chained {
			inspected.Digest, err = d.digests.Of(ctx, file, inspected.Format)
		}
		if err != nil {
			p.addf(path, "%s: %s", file.Name(), err)
			continue
		}
		f.inspected[i] = &inspected
	}
	var err error
	if f.userData, err = readUserData(task.UserData, searchFor(cfg, config.UserDataPaths)); err != nil {
		p.addf("config.user_data", "%s", err)
	}
	return f, p
}

func (f *files) close() {
	for _, file := range f.images {
		if file != nil {
			file.Close()
		}
	}
}

// inOrderOf returns the open images by the VM's disks, whose order is not that
// of the job file.
func (f *files) inOrderOf(s *vm.Spec) []*os.File {
	ordered := make([]*os.File, len(s.Disks))
	for i, d := range s.Disks {
		for k, inspected := range f.inspected {
			if d.Image != nil && d.Image == inspected {
				ordered[i] = f.images[k]
			}
		}
	}
	return ordered
}

// searchFor says where a task's files may be: in directories that the operator
// allows, and in the allocation's own.
func searchFor(cfg *drivers.TaskConfig, allowed []string) hostfile.Search {
	dir := cfg.TaskDir()
	roots := append([]string{}, allowed...)
	return hostfile.Search{
		Roots: append(roots, cfg.AllocDir, dir.Dir),
		Guest: map[string]string{
			"/alloc":   dir.SharedAllocDir,
			"/local":   dir.LocalDir,
			"/secrets": dir.SecretsDir,
		},
	}
}

// maxUserData bounds a user data file. cloud-init's sources that have a limit
// allow far less.
const maxUserData = 16 << 20

// readUserData returns the document itself, or what is in the file of that
// path.
func readUserData(value string, search hostfile.Search) ([]byte, error) {
	if value == "" {
		return nil, nil
	}
	if strings.HasPrefix(value, "#") || strings.ContainsRune(value, '\n') {
		return []byte(value), nil
	}
	file, err := search.Open(value)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var content bytes.Buffer
	if _, err := io.Copy(&content, io.LimitReader(file, maxUserData+1)); err != nil {
		return nil, err
	}
	if content.Len() > maxUserData {
		return nil, fmt.Errorf("%s is larger than %s", file.Name(), vm.Bytes(maxUserData))
	}
	return content.Bytes(), nil
}

// ensurePools has libvirt run the pools that the configuration names.
func ensurePools(ctx context.Context, config Config, host *hypervisor.Host) error {
	for name, pool := range config.StoragePools.Directory {
		if err := host.EnsureDirectoryPool(ctx, name, pool.Path); err != nil {
			return err
		}
	}
	return nil
}
