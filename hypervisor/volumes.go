package hypervisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/digitalocean/go-libvirt"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/vm"
)

// EnsureDirectoryPool has libvirt know and run a pool of that name in a
// directory, and start it with the host. It makes the directory with the pool,
// and not again: where that of a pool is missing, a file system may be that is
// not mounted, and what is in it is not to be given up. A pool of that name that
// is elsewhere, or something else, is an error that says both.
func (h *Host) EnsureDirectoryPool(ctx context.Context, name, path string) error {
	done, err := h.poolTurn(ctx, name)
	if err != nil {
		return err
	}
	defer done()
	pool, err := h.pool(ctx, name)
	if isCode(err, libvirt.ErrNoStoragePool) {
		pool, err = h.definePool(ctx, name, path)
	}
	if err != nil {
		return err
	}
	active, err := h.ensureSameDirectory(ctx, pool, path)
	if err != nil || active {
		return err
	}
	return slowly(ctx, h, nil, "starting storage pool "+name, func(c *libvirt.Libvirt) error {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("its directory %s is not there; if it is on a file system of its own, mount that, "+
				"if it is gone for good, make it anew with mkdir", path)
		}
		return c.StoragePoolCreate(pool, 0)
	})
}

// ensureSameDirectory has a pool that is in a directory start with the host, and tells
// whether it runs.
func (h *Host) ensureSameDirectory(ctx context.Context, pool libvirt.StoragePool, path string) (active bool, err error) {
	return call(ctx, h, "starting storage pool "+pool.Name, func(c *libvirt.Libvirt) (bool, error) {
		document, err := c.StoragePoolGetXMLDesc(pool, 0)
		if err != nil {
			return false, err
		}
		is, err := domxml.ParsePool(document)
		if err != nil {
			return false, err
		}
		if err := sameDirectory(is, path); err != nil {
			return false, err
		}
		if err := c.StoragePoolSetAutostart(pool, 1); err != nil {
			return false, err
		}
		active, err := c.StoragePoolIsActive(pool)
		return active == 1, err
	})
}

// OtherPoolError says that libvirt has another pool by the name of one of the plugin's
// configuration.
type OtherPoolError struct {
	Reason string
	Path   string // where libvirt's is; "": it is no directory
}

func (e OtherPoolError) Error() string { return e.Reason }

// sameDirectory tells what is wrong with a pool that libvirt has by the name of a
// directory's.
func sameDirectory(is domxml.Pool, path string) error {
	switch {
	case is.Type != "dir":
		return OtherPoolError{fmt.Sprintf("libvirt has a pool of that name of type %s, the plugin's configuration says the directory %s; "+
			"name the pool otherwise, or undefine libvirt's", is.Type, path), ""}
	case filepath.Clean(is.Path) != filepath.Clean(path):
		return OtherPoolError{fmt.Sprintf("libvirt has a pool of that name at %s, the plugin's configuration says %s; "+
			"name the pool otherwise, or give it that path", is.Path, path), is.Path}
	}
	return nil
}

// sharedDirectory tells which pool has the directory of one that is to be: libvirt
// takes one for each.
func sharedDirectory(all []domxml.Pool, path string) error {
	for _, is := range all {
		if is.Path != "" && filepath.Clean(is.Path) == filepath.Clean(path) {
			return fmt.Errorf("libvirt has pool %s at %s, and takes one pool for a directory; name the pool %s in the plugin's configuration, "+
				"or remove libvirt's, whose files stay: virsh pool-destroy %s; virsh pool-undefine %s", is.Name, path, is.Name, is.Name, is.Name)
		}
	}
	return nil
}

// poolMode lets QEMU through to its volumes, whoever it runs as.
const poolMode = 0o711

// definePool makes the directory first: a pool that is known has one.
func (h *Host) definePool(ctx context.Context, name, path string) (libvirt.StoragePool, error) {
	document, err := domxml.DirectoryPool(name, path)
	if err != nil {
		return libvirt.StoragePool{}, err
	}
	return call(ctx, h, "defining storage pool "+name, func(c *libvirt.Libvirt) (pool libvirt.StoragePool, err error) {
		all, err := definedPools(c)
		if err != nil {
			return pool, err
		}
		if err := sharedDirectory(all, path); err != nil {
			return pool, err
		}
		if err := os.MkdirAll(path, poolMode); err != nil {
			return pool, fmt.Errorf("making its directory: %w", err)
		}
		return c.StoragePoolDefineXML(document, 0)
	})
}

// definedPools are all that libvirt has, whether they run or not.
func definedPools(c *libvirt.Libvirt) (all []domxml.Pool, err error) {
	pools, _, err := c.ConnectListAllStoragePools(1, 0)
	if err != nil {
		return nil, err
	}
	for _, p := range pools {
		document, err := c.StoragePoolGetXMLDesc(p, 0)
		if isCode(err, libvirt.ErrNoStoragePool) {
			continue // it has gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		is, err := domxml.ParsePool(document)
		if err != nil {
			return nil, err
		}
		all = append(all, is)
	}
	return all, nil
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
	asked := fmt.Sprintf("creating volume %s of %s in storage pool %s", v.Name, v.Size, v.Pool)
	create := func(c *libvirt.Libvirt) error {
		_, err := c.StorageVolCreateXML(pool, document, creation(v))
		return err
	}
	if v.Sparse {
		return do(ctx, h, asked, create)
	}
	return slowly(ctx, h, h.fills, asked, create) // it may have to write all of it
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
// file. A volume that is not there is no error, unless the whole directory of a
// pool is not: it may be on a file system that is not mounted.
func (h *Host) RemoveVolume(ctx context.Context, v vm.Volume) error {
	stopped := errors.New("the pool is stopped")
	pool, err := h.pool(ctx, v.Pool)
	if err == nil {
		err = slowly(ctx, h, h.removals, fmt.Sprintf("deleting volume %s of storage pool %s", v.Name, v.Pool), func(c *libvirt.Libvirt) error {
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
	unknown := isCode(err, libvirt.ErrNoStoragePool)
	if !unknown && !isCode(err, libvirt.ErrNoStorageVol) && !errors.Is(err, stopped) {
		return err
	}
	// libvirt does not know it: what there may be is a file.
	err = os.Remove(v.Path)
	if errors.Is(err, fs.ErrNotExist) {
		_, err = os.Stat(filepath.Dir(v.Path))
		switch gone := errors.Is(err, fs.ErrNotExist); {
		case gone && unknown:
			return nil
		case gone:
			err = fmt.Errorf("the pool's directory is not there, is its file system mounted? %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("deleting volume %s of storage pool %s: %w", v.Name, v.Pool, err)
	}
	return nil
}
