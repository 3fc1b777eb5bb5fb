package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

const (
	// A disk that is found late is waited for, and no seed is an answer as well.
	seedDeadline = 5 * time.Second
	seedPoll     = 50 * time.Millisecond

	// Where an ISO 9660 file system holds its label.
	labelOffset = 16*2048 + 40
	labelLength = 32
)

// seed is what the NoCloud seed tells.
type seed struct {
	userData
	hostname string
	network  networkConfig
}

// findSeed reads the first disk that is labelled as a seed. Without one, the
// guest has a hostname and nothing to do.
func findSeed() seed {
	for deadline := time.Now().Add(seedDeadline); time.Now().Before(deadline); time.Sleep(seedPoll) {
		device := seedDevice()
		if device == "" {
			continue
		}
		s, err := readSeed(device)
		if err != nil {
			logf("seed %s: %v", device, err)
		}
		logf("seed %s", device)
		return s
	}
	logf("seed none")
	return seed{hostname: "tiny"}
}

func seedDevice() string {
	for _, pattern := range []string{"/dev/sr*", "/dev/vd*", "/dev/sd*"} {
		devices, _ := filepath.Glob(pattern)
		for _, device := range devices {
			if isSeedLabel(readLabel(device)) {
				return device
			}
		}
	}
	return ""
}

func readLabel(device string) []byte {
	label := make([]byte, labelLength)
	f, err := os.Open(device)
	if err != nil {
		return nil
	}
	defer f.Close()
	if _, err := f.ReadAt(label, labelOffset); err != nil {
		return nil
	}
	return label
}

func isSeedLabel(label []byte) bool {
	return bytes.EqualFold(bytes.TrimRight(label, " \x00"), []byte("cidata"))
}

func readSeed(device string) (seed, error) {
	s := seed{hostname: "tiny"}
	const dir = "/run/seed"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	if err := unix.Mount(device, dir, "iso9660", unix.MS_RDONLY, ""); err != nil {
		return s, fmt.Errorf("mount: %w", err)
	}
	defer unix.Unmount(dir, 0)

	meta, err := os.ReadFile(filepath.Join(dir, "meta-data"))
	if err != nil {
		return s, err
	}
	var m metaData
	if err := yaml.Unmarshal(meta, &m); err != nil {
		return s, fmt.Errorf("meta-data: %w", err)
	}
	if m.Hostname != "" {
		s.hostname = m.Hostname
	}
	doc, err := os.ReadFile(filepath.Join(dir, "user-data"))
	if err != nil {
		return s, err
	}
	var problems []error
	s.userData, problems = parseUserData(doc)
	for _, problem := range problems {
		logf("user-data: %v", problem)
	}
	logf("instance %s", m.InstanceID)
	network, err := os.ReadFile(filepath.Join(dir, "network-config"))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = yaml.Unmarshal(network, &s.network)
	}
	if err != nil {
		return s, fmt.Errorf("network-config: %w", err)
	}
	return s, nil
}
