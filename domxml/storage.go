package domxml

import (
	"encoding/xml"
	"fmt"
	"net"

	"github.com/google/uuid"
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

// CephPool returns the XML of a storage pool that is a pool of a Ceph cluster.
//
// Format: https://libvirt.org/storage.html#rbd-pool
func CephPool(name string, r vm.RBD) (string, error) {
	source := &libvirtxml.StoragePoolSource{
		Name: r.Pool,
		Auth: &libvirtxml.StoragePoolSourceAuth{
			Type:     "ceph",
			Username: r.User,
			Secret:   &libvirtxml.StoragePoolSourceAuthSecret{UUID: r.Secret},
		},
	}
	for _, monitor := range r.Monitors {
		host, port, err := net.SplitHostPort(monitor)
		if err != nil {
			return "", fmt.Errorf("a monitor of Ceph pool %s is not host:port: %w", r.Pool, err)
		}
		source.Host = append(source.Host, libvirtxml.StoragePoolSourceHost{Name: host, Port: port})
	}
	return (&libvirtxml.StoragePool{
		Type:           "rbd",
		Name:           name,
		Source:         source,
		RBDCommandline: &libvirtxml.StoragePoolRBDCommandline{Options: cephPatience},
	}).Marshal()
}

// cephPatience is for how many seconds libvirt waits for Ceph: while it does, it
// answers nothing about the pool, and does not list pools. Its own are 30.
var cephPatience = []libvirtxml.StoragePoolRBDCommandlineOption{
	{Name: "client_mount_timeout", Value: "10"},
	{Name: "rados_mon_op_timeout", Value: "10"},
	{Name: "rados_osd_op_timeout", Value: "10"},
}

// Secret returns the XML of the secret that holds the key of a Ceph pool's
// client. It is kept on the host's disk, readable by root, for the VMs that
// start with the host; nobody can read it back through libvirt.
//
// Format: https://libvirt.org/formatsecret.html
func Secret(id, pool string) (string, error) {
	return (&libvirtxml.Secret{
		Ephemeral:   "no",
		Private:     "yes",
		Description: "Key of the Ceph client of storage pool " + pool,
		UUID:        id,
		Usage:       &libvirtxml.SecretUsage{Type: "ceph", Name: SecretUsage(pool)},
	}).Marshal()
}

// SecretUsage names what the secret of a Ceph pool is for. libvirt has one
// secret for each.
func SecretUsage(pool string) string { return "nomad-driver-virt storage pool " + pool }

// SecretUUID returns the UUID of the secret of a Ceph pool: one that only the
// name decides, so that a plan knows it before there is a secret.
//
// It is a version 5: https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-5
func SecretUUID(pool string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("nomad-driver-virt:pool:"+pool)).String()
}

// Pool is what libvirt knows of a storage pool.
type Pool struct {
	Name string
	Type string // "dir", "rbd" or another of libvirt's
	Path string // the directory of a pool that has one
	RBD  vm.RBD // where the type is "rbd"
}

// ParsePool reads the XML of a storage pool.
func ParsePool(document string) (Pool, error) {
	var x libvirtxml.StoragePool
	if err := x.Unmarshal(document); err != nil {
		return Pool{}, fmt.Errorf("storage pool XML: %w", err)
	}
	p := Pool{Name: x.Name, Type: x.Type}
	if x.Target != nil {
		p.Path = x.Target.Path
	}
	if x.Type != "rbd" || x.Source == nil {
		return p, nil
	}
	p.RBD.Pool = x.Source.Name
	for _, h := range x.Source.Host {
		p.RBD.Monitors = append(p.RBD.Monitors, net.JoinHostPort(h.Name, h.Port))
	}
	if auth := x.Source.Auth; auth != nil {
		p.RBD.User = auth.Username
		if auth.Secret != nil {
			p.RBD.Secret = auth.Secret.UUID
		}
	}
	return p, nil
}

// ParsePoolTypes reads which types of storage pools libvirt can have.
//
// Format: https://libvirt.org/formatstoragecaps.html, which libvirtxml does not have.
func ParsePoolTypes(document string) ([]string, error) {
	var x struct {
		XMLName xml.Name `xml:"storagepoolCapabilities"`
		Pools   []struct {
			Type      string `xml:"type,attr"`
			Supported string `xml:"supported,attr"`
		} `xml:"pool"`
	}
	if err := xml.Unmarshal([]byte(document), &x); err != nil {
		return nil, fmt.Errorf("storage pool capabilities XML: %w", err)
	}
	var types []string
	for _, p := range x.Pools {
		if p.Supported == "yes" {
			types = append(types, p.Type)
		}
	}
	return types, nil
}
