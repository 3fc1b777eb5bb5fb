// Package cloudinit writes what cloud-init reads in a guest: the documents of
// its NoCloud data source, and the ISO image that carries them. It computes
// values from a vm.Seed and knows neither Nomad nor libvirt.
package cloudinit

import (
	"fmt"

	"nomad-driver-virt/vm"
)

// Files are the documents of a NoCloud data source.
type Files struct {
	MetaData []byte
	UserData []byte
	// NetworkConfig is nil where cloud-init is to find the network by itself.
	NetworkConfig []byte
}

// Documents returns the documents of a seed. It refuses the user data that
// CheckUserData refuses.
func Documents(seed vm.Seed) (Files, error) {
	users, err := parseUserData(seed.UserData)
	if err != nil {
		return Files{}, err
	}
	metaData, err := asciiJSON(struct {
		InstanceID    string `json:"instance-id"`
		LocalHostname string `json:"local-hostname"`
	}{seed.InstanceID, seed.Hostname})
	if err != nil {
		return Files{}, fmt.Errorf("meta-data: %w", err)
	}
	config, err := asciiJSON(newConfig(seed))
	if err != nil {
		return Files{}, fmt.Errorf("cloud-config: %w", err)
	}
	ours := textPart("text/cloud-config", append([]byte("#cloud-config\n"), config...))
	ours.header.Set("Merge-Type", mergeType)

	network, err := networkConfig(seed.Interfaces)
	if err != nil {
		return Files{}, fmt.Errorf("network-config: %w", err)
	}
	parts := []part{ours}
	if users != nil {
		parts = []part{*users, ours}
	}
	return Files{MetaData: metaData, UserData: multipartMixed(parts), NetworkConfig: network}, nil
}
