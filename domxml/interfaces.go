package domxml

import (
	"encoding/xml"
	"fmt"
	"strings"

	"nomad-driver-virt/vm"
)

// Interface is a network interface of a domain, whosever that is.
type Interface struct {
	MAC    string
	Domain string   // its name
	Owner  vm.Owner // of a VM of the driver's; otherwise it is empty
	// Reserved tells that an address was reserved for it before the driver made its VM.
	Reserved bool
}

// ParseInterfaces reads a domain's interfaces.
//
// Format: https://libvirt.org/formatdomain.html#network-interfaces
func ParseInterfaces(document string) ([]Interface, error) {
	// Not by libvirt's types: they leave the metadata as they are written, with name
	// spaces that may be declared around them.
	var domain struct {
		Name    string `xml:"name"`
		Written struct {
			VM metadata `xml:"urn:nomad-driver-virt:vm:1 vm"` // MetadataURI
		} `xml:"metadata"`
		Devices []struct {
			MAC struct {
				Address string `xml:"address,attr"`
			} `xml:"mac"`
		} `xml:"devices>interface"`
	}
	if err := xml.Unmarshal([]byte(document), &domain); err != nil {
		return nil, fmt.Errorf("domain XML: %w", err)
	}
	kept := make(map[string]bool)
	for _, i := range domain.Written.VM.Interfaces {
		kept[strings.ToLower(i.MAC)] = i.Kept
	}
	var all []Interface
	for _, device := range domain.Devices {
		if mac := strings.ToLower(device.MAC.Address); mac != "" {
			all = append(all, Interface{mac, domain.Name, vm.Owner(domain.Written.VM.Task), kept[mac]})
		}
	}
	return all, nil
}
