package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// networkConfig is what is read of a network-config of version 2: addresses, by the
// hardware addresses of the interfaces that have them.
type networkConfig struct {
	Ethernets map[string]ethernet `yaml:"ethernets"`
}

type ethernet struct {
	Match struct {
		MACAddress string `yaml:"macaddress"`
	} `yaml:"match"`
	DHCP4     bool     `yaml:"dhcp4"`
	Addresses []string `yaml:"addresses"`
	Routes    []struct {
		To  string `yaml:"to"`
		Via string `yaml:"via"`
	} `yaml:"routes"`
}

// of finds what an interface is told.
func (c networkConfig) of(name string) ethernet {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return ethernet{}
	}
	for _, e := range c.Ethernets {
		if strings.EqualFold(e.Match.MACAddress, i.HardwareAddr.String()) {
			return e
		}
	}
	return ethernet{}
}

// hasIPv6 tells whether an interface is to have an address of that.
func (c networkConfig) hasIPv6() bool {
	for _, e := range c.Ethernets {
		for _, address := range e.Addresses {
			if family(address) == "-6" {
				return true
			}
		}
	}
	return false
}

// family is the option of ip for an address or a network.
func family(address string) string {
	if strings.Contains(address, ":") {
		return "-6"
	}
	return "-4"
}

// startNetwork gives each Ethernet interface the addresses that it is to have, or
// asks for one, on all at once, and leaves a DHCP client on those that renews it.
func startNetwork(hostname string, config networkConfig) {
	if !config.hasIPv6() {
		disableIPv6()
	}
	run("ip", "link", "set", "lo", "up")

	var asked sync.WaitGroup
	for _, name := range ethernets() {
		asked.Go(func() {
			run("ip", "link", "set", name, "up")
			told := config.of(name)
			for _, address := range told.Addresses {
				run("ip", "address", "add", address, "dev", name)
			}
			for _, route := range told.Routes {
				run("ip", family(route.To), "route", "add", route.To, "via", route.Via)
			}
			if len(told.Addresses) > 0 && !told.DHCP4 {
				logf("network %s %s", name, addressOf(name))
				return
			}
			run("udhcpc", "-i", name, "-s", "/etc/udhcpc/script", "-x", "hostname:"+hostname, "-t", "10", "-T", "1", "-b", "-S")
			logf("network %s %s", name, addressOf(name))
		})
	}
	asked.Wait()
}

func disableIPv6() {
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0); err != nil {
		logf("IPv6 stays on: %v", err)
	}
}

func ethernets() []string {
	interfaces, err := net.Interfaces()
	if err != nil {
		logf("network interfaces: %v", err)
	}
	var names []string
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) == 6 {
			names = append(names, i.Name)
		}
	}
	return names
}

func addressOf(name string) string {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return err.Error()
	}
	addrs, err := i.Addrs()
	if err != nil || len(addrs) == 0 {
		return "without address"
	}
	address, _, _ := strings.Cut(addrs[0].String(), "/")
	return address
}

func run(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		logf("%s %s: %v %s", name, strings.Join(args, " "), err, out)
	}
}
