package cloudinit

import (
	"fmt"
	"net/netip"

	"nomad-driver-virt/vm"
)

// ethernet is one interface in a network configuration of version 2.
//
// See https://docs.cloud-init.io/en/latest/reference/network-config-format-v2.html
type ethernet struct {
	Match       match        `json:"match"`
	DHCP4       bool         `json:"dhcp4"`
	Optional    bool         `json:"optional,omitempty"`
	Addresses   []string     `json:"addresses,omitempty"`
	Routes      []route      `json:"routes,omitempty"`
	NameServers *nameServers `json:"nameservers,omitempty"`
}

type match struct {
	MACAddress string `json:"macaddress"`
}

type route struct {
	To  string `json:"to"`
	Via string `json:"via"`
}

type nameServers struct {
	Addresses []netip.Addr `json:"addresses"`
}

// networkConfig tells of the interfaces of a VM, by their hardware addresses; nil
// where there are none to be told of.
func networkConfig(interfaces []vm.Interface) ([]byte, error) {
	if len(interfaces) == 0 {
		return nil, nil
	}
	ethernets := make(map[string]ethernet)
	for n, i := range interfaces {
		// A guest is not to wait at each boot for a network where nobody may answer.
		hasDHCP := i.Network != ""
		e := ethernet{Match: match{i.MAC}, DHCP4: !i.Address.IsValid(), Optional: !i.Address.IsValid() && !hasDHCP}
		if i.Address.IsValid() {
			e.Addresses = []string{i.Address.String()}
		}
		if i.Gateway.IsValid() {
			e.Routes = []route{{defaultRoute, i.Gateway.String()}}
		}
		if i.Address6.IsValid() {
			e.Addresses = append(e.Addresses, i.Address6.String())
		}
		if i.Gateway6.IsValid() {
			e.Routes = append(e.Routes, route{defaultRoute6, i.Gateway6.String()})
		}
		if len(i.DNS) > 0 {
			e.NameServers = &nameServers{i.DNS}
		}
		ethernets[fmt.Sprintf("interface%d", n)] = e
	}
	return asciiJSON(struct {
		Version   int                 `json:"version"`
		Ethernets map[string]ethernet `json:"ethernets"`
	}{2, ethernets})
}

// These are understood by more versions than the word "default".
const (
	defaultRoute  = "0.0.0.0/0"
	defaultRoute6 = "::/0"
)
