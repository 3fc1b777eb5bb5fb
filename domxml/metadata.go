package domxml

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nomad-driver-virt/vm"
)

// MetadataURI is the XML name space of what the driver writes into a domain's
// metadata: the key by which libvirt gives it back.
const MetadataURI = "urn:nomad-driver-virt:vm:1"

// Journal is what a domain's metadata tells of a VM: whose it is, and all that
// was or was going to be made for it.
type Journal struct {
	Owner vm.Owner
	// Volumes have their pool, name, path and parent set, and how long they are
	// kept.
	Volumes []vm.Volume
	// Disks tells which of them a disk of the guest is, by its target ("vda").
	Disks map[string]vm.Volume
	// Interfaces have their network and hardware address set, the key of what is
	// reserved for them, and what they publish. VMs of earlier versions have no
	// more than the key.
	Interfaces []vm.Interface
}

type metadata struct {
	XMLName xml.Name `xml:"vm"`
	// NameSpace is written and not read: libvirt takes it off what it gives back.
	NameSpace  string              `xml:"xmlns,attr"`
	Task       metadataTask        `xml:"task"`
	Volumes    []metadataVolume    `xml:"volume"`
	Interfaces []metadataInterface `xml:"interface"`
}

type metadataTask struct {
	Node      string `xml:"node,attr"`
	Namespace string `xml:"namespace,attr"`
	Job       string `xml:"job,attr"`
	Group     string `xml:"group,attr"`
	Task      string `xml:"name,attr"`
	Alloc     string `xml:"alloc,attr"`
	TaskID    string `xml:"id,attr"`
}

type metadataVolume struct {
	Pool string `xml:"pool,attr"`
	Name string `xml:"name,attr"`
	Path string `xml:"path,attr,omitempty"`
	Of   string `xml:"of,attr,omitempty"` // its parent
	Disk string `xml:"disk,attr,omitempty"`
	Keep string `xml:"keep,attr,omitempty"` // as time.Duration writes it
}

func marshalVolume(v vm.Volume, disk string) metadataVolume {
	m := metadataVolume{Pool: v.Pool, Name: v.Name, Path: v.Path, Of: v.Parent, Disk: disk}
	if v.Keep > 0 {
		m.Keep = v.Keep.String()
	}
	return m
}

func (m metadataVolume) volume() (vm.Volume, error) {
	v := vm.Volume{Pool: m.Pool, Name: m.Name, Path: m.Path, Parent: m.Of}
	if m.Keep == "" {
		return v, nil
	}
	var err error
	v.Keep, err = time.ParseDuration(m.Keep)
	return v, err
}

type metadataInterface struct {
	Network string `xml:"network,attr"`
	MAC     string `xml:"mac,attr"`
	Bridge  string `xml:"bridge,attr,omitempty"`
	Address string `xml:"address,attr,omitempty"`
	// Address6 is the one of IPv6.
	Address6 string `xml:"address6,attr,omitempty"`
	// Kept is a reservation that is not this VM's.
	Kept     bool           `xml:"kept,attr,omitempty"`
	Isolated bool           `xml:"isolated,attr,omitempty"`
	Ports    []metadataPort `xml:"port"`
}

type metadataPort struct {
	Label string `xml:"label,attr"`
	Host  string `xml:"host,attr"`
	Guest uint16 `xml:"guest,attr"`
	// Beside is a port at an address that nobody chose.
	Beside bool `xml:"beside,attr,omitempty"`
}

func marshalInterface(i vm.Interface) metadataInterface {
	m := metadataInterface{Network: i.Network, MAC: i.MAC, Bridge: i.Bridge, Kept: i.Reserved, Isolated: i.Isolated}
	if i.Address.IsValid() {
		m.Address = i.Address.String()
	}
	if i.Address6.IsValid() {
		m.Address6 = i.Address6.String()
	}
	for _, p := range i.Ports {
		m.Ports = append(m.Ports, metadataPort{p.Label, p.Host.String(), p.Guest, p.Beside})
	}
	return m
}

func (m metadataInterface) vmInterface() (vm.Interface, error) {
	i := vm.Interface{Network: m.Network, MAC: m.MAC, Bridge: m.Bridge, Reserved: m.Kept, Isolated: m.Isolated}
	var err error
	if m.Address != "" {
		if i.Address, err = netip.ParsePrefix(m.Address); err != nil {
			return i, err
		}
	}
	if m.Address6 != "" {
		if i.Address6, err = netip.ParsePrefix(m.Address6); err != nil {
			return i, err
		}
	}
	for _, p := range m.Ports {
		host, err := netip.ParseAddrPort(p.Host)
		if err != nil {
			return i, err
		}
		i.Ports = append(i.Ports, vm.Port{Label: p.Label, Host: host, Guest: p.Guest, Beside: p.Beside})
	}
	return i, nil
}

func marshalMetadata(s *vm.Spec) (string, error) {
	m := metadata{NameSpace: MetadataURI, Task: metadataTask(s.Owner)}
	disks := make(map[string]string)
	for _, d := range s.Disks {
		disks[d.Volume.Pool+"/"+d.Volume.Name] = d.Device
	}
	for _, v := range s.Volumes() {
		m.Volumes = append(m.Volumes, marshalVolume(v, disks[v.Pool+"/"+v.Name]))
	}
	for _, i := range s.Interfaces {
		m.Interfaces = append(m.Interfaces, marshalInterface(i))
	}
	out, err := xml.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("metadata of VM %s: %w", s.Name, err)
	}
	return string(out), nil
}

// ErrBadJournal says that somebody has edited the metadata of a domain, or that a later
// version of the driver has written it.
var ErrBadJournal = errors.New("the domain's metadata is not what this driver writes")

// ParseJournal reads the driver's metadata of a domain, as libvirt returns it
// for MetadataURI. What it does not understand is ErrBadJournal.
func ParseJournal(document string) (Journal, error) {
	var m metadata
	if err := xml.Unmarshal([]byte(document), &m); err != nil {
		return Journal{}, fmt.Errorf("%w: %w", ErrBadJournal, err)
	}
	j := Journal{Owner: vm.Owner(m.Task), Disks: make(map[string]vm.Volume)}
	for _, written := range m.Volumes {
		v, err := written.volume()
		if err != nil {
			return Journal{}, fmt.Errorf("%w: %w", ErrBadJournal, err)
		}
		j.Volumes = append(j.Volumes, v)
		if written.Disk != "" {
			j.Disks[written.Disk] = v
		}
	}
	for _, written := range m.Interfaces {
		i, err := written.vmInterface()
		if err != nil {
			return Journal{}, fmt.Errorf("%w: %w", ErrBadJournal, err)
		}
		j.Interfaces = append(j.Interfaces, i)
	}
	return j, nil
}
