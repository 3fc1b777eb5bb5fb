package domxml

import (
	"encoding/xml"
	"fmt"

	"nomad-driver-virt/vm"
)

// MetadataURI is the XML name space of what the driver writes into a domain's
// metadata: the key by which libvirt gives it back.
const MetadataURI = "urn:nomad-driver-virt:vm:1"

// Journal is what a domain's metadata tells of a VM: whose it is, and all that
// was or was going to be made for it.
type Journal struct {
	Owner   vm.Owner
	Volumes []vm.Volume // pool, name and path are set
	// Interfaces have their network and hardware address set: the key of what
	// is reserved for them.
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
	Path string `xml:"path,attr"`
}

type metadataInterface struct {
	Network string `xml:"network,attr"`
	MAC     string `xml:"mac,attr"`
}

func marshalMetadata(s *vm.Spec) (string, error) {
	m := metadata{NameSpace: MetadataURI, Task: metadataTask(s.Owner)}
	for _, v := range s.Volumes() {
		m.Volumes = append(m.Volumes, metadataVolume{v.Pool, v.Name, v.Path})
	}
	for _, i := range s.Interfaces {
		m.Interfaces = append(m.Interfaces, metadataInterface{i.Network, i.MAC})
	}
	out, err := xml.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("metadata of VM %s: %w", s.Name, err)
	}
	return string(out), nil
}

// ParseJournal reads the driver's metadata of a domain, as libvirt returns it
// for MetadataURI.
func ParseJournal(document string) (Journal, error) {
	var m metadata
	if err := xml.Unmarshal([]byte(document), &m); err != nil {
		return Journal{}, fmt.Errorf("the domain's metadata is not what this driver writes: %w", err)
	}
	j := Journal{Owner: vm.Owner(m.Task)}
	for _, v := range m.Volumes {
		j.Volumes = append(j.Volumes, vm.Volume{Pool: v.Pool, Name: v.Name, Path: v.Path})
	}
	for _, i := range m.Interfaces {
		j.Interfaces = append(j.Interfaces, vm.Interface{Network: i.Network, MAC: i.MAC})
	}
	return j, nil
}
