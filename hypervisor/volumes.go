package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// EnsureDirectoryPool has libvirt know and run a pool of that name in a
// directory, and start it with the host. A pool of that name in another
// directory is an error that names both.
func (h *Host) EnsureDirectoryPool(ctx context.Context, name, path string) error {
	pool, err := h.pool(ctx, name)
	if isCode(err, libvirt.ErrNoStoragePool) {
		pool, err = h.definePool(ctx, name, path)
	}
	if err != nil {
		return err
	}
	return do(ctx, h, "starting storage pool "+name, func(c *libvirt.Libvirt) error {
		document, err := c.StoragePoolGetXMLDesc(pool, 0)
		if err != nil {
			return err
		}
		switch is, err := domxml.ParsePoolPath(document); {
		case err != nil:
			return err
		case filepath.Clean(is) != filepath.Clean(path):
			return fmt.Errorf("libvirt has a pool of that name at %s, the plugin's configuration says %s; "+
				"name the pool otherwise, or give it that path", is, path)
		}
		if err := c.StoragePoolSetAutostart(pool, 1); err != nil {
			return err
		}
		active, err := c.StoragePoolIsActive(pool)
		if err != nil || active == 1 {
			return err
		}
		if err := os.MkdirAll(path, poolMode); err != nil {
			return err
		}
		return c.StoragePoolCreate(pool, 0)
	})
}

// poolMode lets QEMU through to its volumes, whoever it runs as.
const poolMode = 0o711

func (h *Host) definePool(ctx context.Context, name, path string) (libvirt.StoragePool, error) {
	document, err := domxml.DirectoryPool(name, path)
	if err != nil {
		return libvirt.StoragePool{}, err
	}
	return call(ctx, h, "defining storage pool "+name, func(c *libvirt.Libvirt) (libvirt.StoragePool, error) {
		return c.StoragePoolDefineXML(document, 0)
	})
}

func (h *Host) pool(ctx context.Context, name string) (libvirt.StoragePool, error) {
	return call(ctx, h, "looking up storage pool "+name, func(c *libvirt.Libvirt) (libvirt.StoragePool, error) {
		return c.StoragePoolLookupByName(name)
	})
}

// CreateVolume makes a volume in its pool, empty, or an overlay of base unless
// that is nil.
func (h *Host) CreateVolume(ctx context.Context, v vm.Volume, base *vm.Volume) error {
	document, err := domxml.Volume(v, base)
	if err != nil {
		return err
	}
	pool, err := h.pool(ctx, v.Pool)
	if err != nil {
		return err
	}
	return do(ctx, h, fmt.Sprintf("creating volume %s of %s in storage pool %s", v.Name, v.Size, v.Pool),
		func(c *libvirt.Libvirt) error {
			_, err := c.StorageVolCreateXML(pool, document, creation(v))
			return err
		})
}

// creation has a qcow2 that is not sparse allocated in full: without it libvirt
// allocates raw volumes only.
func creation(v vm.Volume) libvirt.StorageVolCreateFlags {
	if v.Format == "qcow2" && !v.Sparse {
		return libvirt.StorageVolCreatePreallocMetadata
	}
	return 0
}

// RemoveVolume deletes a volume: by libvirt where libvirt knows it, else its
// file. A volume that is not there is no error.
func (h *Host) RemoveVolume(ctx context.Context, v vm.Volume) error {
	stopped := errors.New("the pool is stopped")
	pool, err := h.pool(ctx, v.Pool)
	if err == nil {
		err = do(ctx, h, fmt.Sprintf("deleting volume %s of storage pool %s", v.Name, v.Pool), func(c *libvirt.Libvirt) error {
			switch active, err := c.StoragePoolIsActive(pool); {
			case err != nil:
				return err
			case active == 0:
				return stopped
			}
			volume, err := c.StorageVolLookupByName(pool, v.Name)
			if err != nil {
				return err
			}
			return c.StorageVolDelete(volume, libvirt.StorageVolDeleteNormal)
		})
	}
	switch {
	case isCode(err, libvirt.ErrNoStoragePool), isCode(err, libvirt.ErrNoStorageVol), errors.Is(err, stopped):
		// libvirt does not know it: what there may be is a file.
		if err := os.Remove(v.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("deleting volume %s of storage pool %s: %w", v.Name, v.Pool, err)
		}
		return nil
	}
	return err
}

// RefreshPool has libvirt look at a pool again, so that virsh lists what others
// have changed. It is no error that libvirt declines while it works in the pool:
// it lists that after its next look.
func (h *Host) RefreshPool(ctx context.Context, name string) {
	pool, err := h.pool(ctx, name)
	if err != nil {
		return
	}
	_ = do(ctx, h, "refreshing storage pool "+name, func(c *libvirt.Libvirt) error {
		return c.StoragePoolRefresh(pool, 0)
	})
}
