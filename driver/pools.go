package driver

import (
	"context"
	"path/filepath"
	"time"

	"nomad-driver-virt/rbd"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// newStore returns the storage of the pools of a configuration that was
// validated.
func newStore(config Config, host libvirtHost) *storage.Store {
	pools := make(map[string]storage.Pool)
	for name, p := range config.StoragePools.Directory {
		pools[name] = &storage.Directory{Host: host, Name: name, Path: p.Path}
	}
	for name, p := range config.StoragePools.Ceph {
		pools[name] = &storage.Ceph{Host: host, Name: name, RBD: rbd.Pool{RBD: *p.rbd(name), Key: p.Authentication.Secret}}
	}
	orphaned := func(v vm.Volume) storage.Pool {
		return &storage.Directory{Host: host, Name: v.Pool, Path: filepath.Dir(v.Path)}
	}
	unusedFor, _ := time.ParseDuration(config.StoragePools.KeepUnusedBases) // it was validated
	return storage.New(pools, orphaned, unusedFor)
}

// sweepEvery is how often volumes are looked for whose time is over.
const sweepEvery = time.Minute

// sweep removes such volumes, for as long as the driver lives.
func (d *Driver) sweep(ctx context.Context, m *machines) {
	var last news
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
		removed, err := m.store.Sweep(ctx, time.Now())
		for _, volume := range removed {
			d.logger.Info("a volume was removed whose time is over", "volume", volume)
		}
		if last.is(err, time.Now()) {
			d.logger.Warn("volumes whose time is over could not be removed; it is tried again", "every", sweepEvery.String(), "error", err)
		}
	}
}
