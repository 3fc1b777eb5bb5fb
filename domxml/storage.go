package domxml

import (
	"fmt"

	"libvirt.org/go/libvirtxml"

	"nomad-driver-virt/vm"
)

// Volume returns the XML to create a volume, which overlays base unless that
// is nil. A volume that is not sparse is fully allocated.
//
// Format: https://libvirt.org/formatstorage.html
func Volume(v vm.Volume, base *vm.Volume) (string, error) {
	x := libvirtxml.StorageVolume{
		Name:     v.Name,
		Capacity: &libvirtxml.StorageVolumeSize{Value: uint64(v.Size)},
		Target: &libvirtxml.StorageVolumeTarget{
			Format: &libvirtxml.StorageVolumeTargetFormat{Type: v.Format},
			// It may hold what only the task may read.
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: "0600"},
		},
	}
	if v.Sparse {
		x.Allocation = &libvirtxml.StorageVolumeSize{Value: 0}
	} else {
		x.Allocation = &libvirtxml.StorageVolumeSize{Value: uint64(v.Size)}
	}
	if v.Format == "qcow2" {
		// libvirt's default is the format of 2006, without zero clusters.
		x.Target.Compat = "1.1"
	}
	if base != nil {
		x.BackingStore = &libvirtxml.StorageVolumeBackingStore{
			Path:   base.Path,
			Format: &libvirtxml.StorageVolumeTargetFormat{Type: base.Format},
		}
	}
	return x.Marshal()
}

// DirectoryPool returns the XML of a storage pool that is a directory.
func DirectoryPool(name, path string) (string, error) {
	return (&libvirtxml.StoragePool{
		Type:   "dir",
		Name:   name,
		Target: &libvirtxml.StoragePoolTarget{Path: path},
	}).Marshal()
}

// ParsePoolPath returns the directory of a pool; "" for a pool that is none.
func ParsePoolPath(document string) (string, error) {
	var p libvirtxml.StoragePool
	if err := p.Unmarshal(document); err != nil {
		return "", fmt.Errorf("storage pool XML: %w", err)
	}
	if p.Target == nil {
		return "", nil
	}
	return p.Target.Path, nil
}
