package driver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/hostfile"
	"nomad-driver-virt/image"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// namedFiles is what a task names on the host: files open and judged, volumes looked
// up.
type namedFiles struct {
	files    []*os.File // by disk in the job file: what it is copied from; nil where there is none
	sources  []source   // the same
	mounts   []mount
	userData []byte
}

// find looks up what a task names. What cannot be had is among the problems.
func (d *Driver) find(ctx context.Context, config Config, store *storage.Store, task TaskConfig, cfg *drivers.TaskConfig) (*namedFiles, problems) {
	ctx, cancel := storage.Bounded(ctx)
	defer cancel()
	var p problems
	f := &namedFiles{
		files:   make([]*os.File, len(task.Disks)),
		sources: make([]source, len(task.Disks)),
		mounts:  lookAtMounts(cfg.Mounts),
	}
	search := searchFor(cfg, config.ImagePaths)
	for i, disk := range task.Disks {
		path := indexed("config.disk", i) + ".source"
		f.sources[i].mount = mountOf(f.mounts, disk)
		var err error
		switch s := disk.Source; {
		case s == nil, isRefused(config, disk): // the plan tells
		case s.Image != "":
			path += ".image"
			f.files[i], f.sources[i].image, err = openImage(ctx, search, store, *s)
		case s.Volume != "" && disk.Volume == "":
			path += ".volume"
			f.files[i], f.sources[i], err = findVolume(ctx, store, config, disk)
		}
		if err == nil && disk.Chained && f.sources[i].image != nil && f.sources[i].volume == nil {
			err = d.identify(ctx, f.files[i], f.sources[i].image, d.teller(cfg))
		}
		if err != nil {
			p.addf(path, "%s", err)
			f.sources[i].image, f.sources[i].volume = nil, nil
		}
	}
	var err error
	if f.userData, err = readUserData(task.UserData, searchFor(cfg, config.UserDataPaths)); err != nil {
		p.addf("config.user_data", "%s", err)
	}
	return f, p
}

// identify reads an image, unless it was read before, for the name of its base.
func (d *Driver) identify(ctx context.Context, file *os.File, image *vm.Image, tell storage.Tell) (err error) {
	image.Digest, err = d.digests.Of(ctx, file, image.Format, storage.Quarters("Reading image "+image.Path, tell))
	return err
}

func openImage(ctx context.Context, search hostfile.Search, store *storage.Store, s DiskSource) (*os.File, *vm.Image, error) {
	file, err := search.Open(s.Image)
	if err != nil {
		return nil, nil, err
	}
	real, err := hostfile.Real(file)
	if err == nil {
		err = store.RefusePrivate(real)
	}
	if err != nil {
		return file, nil, err
	}
	inspected, err := image.Inspect(ctx, file, s.Format)
	if err != nil {
		return file, nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return file, &inspected, nil
}

// isRefused tells whether the plan refuses the source of a disk by its names.
func isRefused(config Config, disk Disk) bool {
	_, inCeph := config.StoragePools.Ceph[diskPool(config, "", disk, new(problems))]
	var p problems
	refuseNamed("", *disk.Source, inCeph && disk.Volume == "", &p)
	return len(p) > 0
}

func findVolume(ctx context.Context, store *storage.Store, config Config, disk Disk) (*os.File, source, error) {
	var none problems
	pool := diskPool(config, "", disk, &none)
	if len(none) > 0 { // the plan tells
		return nil, source{}, nil
	}
	s, err := store.Source(ctx, pool, disk.Source.Volume, disk.Source.Format)
	if err != nil {
		return nil, source{}, err
	}
	return s.File, source{image: s.Image, volume: &s.Volume}, nil
}

func (f *namedFiles) close() {
	for _, file := range f.files {
		if file != nil {
			file.Close()
		}
	}
}

// inOrderOf returns the open images by the VM's disks, whose order is not that
// of the job file.
func (f *namedFiles) inOrderOf(s *vm.Spec) []*os.File {
	ordered := make([]*os.File, len(s.Disks))
	for i, d := range s.Disks {
		for k, source := range f.sources {
			if d.Image != nil && d.Image == source.image {
				ordered[i] = f.files[k]
			}
		}
	}
	return ordered
}

// lookAtMounts tells what the volumes are that a task mounts: Nomad does not.
func lookAtMounts(all []*drivers.MountConfig) []mount {
	var mounts []mount
	for _, m := range all {
		found := mount{taskPath: m.TaskPath, hostPath: m.HostPath, readOnly: m.Readonly, kind: mountsNeither}
		info, err := os.Stat(m.HostPath)
		switch {
		case err != nil:
			found.err = fmt.Errorf("the volume is not at %s on this host: %w", m.HostPath, err)
		case info.IsDir():
			found.kind = mountsDirectory
		case info.Mode()&(fs.ModeDevice|fs.ModeCharDevice) == fs.ModeDevice:
			found.kind = mountsDevice
			found.size, found.err = deviceSize(m.HostPath)
		}
		mounts = append(mounts, found)
	}
	return mounts
}

// deviceSize leaves the device to others: it may be in use.
func deviceSize(path string) (vm.Bytes, error) {
	device, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer device.Close()
	size, err := device.Seek(0, io.SeekEnd)
	return vm.Bytes(size), err
}

// searchFor says where a task's files may be: in directories that the operator
// allows, in the one that the tasks of the allocation share, and in the task's own.
// Those of other tasks are theirs: they may hold secrets, and, where Nomad has made
// a chroot, links to the host's own files.
func searchFor(cfg *drivers.TaskConfig, allowed []string) hostfile.Search {
	dir := cfg.TaskDir()
	return hostfile.Search{
		Roots:  slices.Concat(allowed, []string{dir.SharedAllocDir, dir.Dir}),
		Places: slices.Concat(allowed, []string{cfg.AllocDir, dir.Dir}),
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
	if isDocument(value) {
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

// isDocument tells user data from the path of a file that holds them.
func isDocument(value string) bool {
	return strings.HasPrefix(value, "#") || strings.ContainsRune(value, '\n')
}
