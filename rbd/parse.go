package rbd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"nomad-driver-virt/vm"
)

// read adds to an error of what a program wrote what was asked of it.
func (p Pool) read(asked string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: what rbd writes cannot be read: %w", asked, p, err)
}

// parseSize reads `rbd info`.
func parseSize(out []byte) (vm.Bytes, error) {
	var info struct {
		Size *vm.Bytes `json:"size"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return 0, err
	}
	if info.Size == nil {
		return 0, fmt.Errorf("there is no size in %q", out)
	}
	return *info.Size, nil
}

// parseNames reads `rbd ls`.
func parseNames(out []byte) ([]string, error) {
	var names []string
	err := json.Unmarshal(out, &names)
	return names, err
}

type snapshot struct {
	Name      string
	Protected bool
}

// parseSnapshots reads `rbd snap ls`, which writes its truths as texts.
func parseSnapshots(out []byte) ([]snapshot, error) {
	var listed []struct {
		Name      string `json:"name"`
		Protected any    `json:"protected"`
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return nil, err
	}
	var all []snapshot
	for _, s := range listed {
		all = append(all, snapshot{s.Name, s.Protected == true || s.Protected == "true"})
	}
	return all, nil
}

// parseChildren reads `rbd children`: clones of other pools are named with
// theirs, and those that were moved to the trash as such.
func parseChildren(out []byte) ([]string, error) {
	var children []struct {
		Pool  string `json:"pool"`
		Image string `json:"image"`
		Trash bool   `json:"trash"`
	}
	if err := json.Unmarshal(out, &children); err != nil {
		return nil, err
	}
	var names []string
	for _, c := range children {
		name := c.Pool + "/" + c.Image
		if c.Trash {
			name += " (in the trash)"
		}
		names = append(names, name)
	}
	return names, nil
}

// parseUsed reads `rbd image-meta list`, which writes nothing at all where
// there is nothing.
func parseUsed(out []byte) (time.Time, error) {
	var metadata map[string]string
	if len(out) > 0 {
		if err := json.Unmarshal(out, &metadata); err != nil {
			return time.Time{}, err
		}
	}
	at, noted := metadata[usedKey]
	if !noted {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, at)
}

// parseFull reads `ceph osd dump`: whether a pool takes no more data, and
// whether that is for its quota. A pool is marked full with the cluster.
func parseFull(out []byte, pool string) (full, quota bool, err error) {
	var dump struct {
		Pools []struct {
			Name  string `json:"pool_name"`
			Flags string `json:"flags_names"` // "hashpspool,full,selfmanaged_snaps"
		} `json:"pools"`
	}
	if err := json.Unmarshal(out, &dump); err != nil {
		return false, false, err
	}
	for _, p := range dump.Pools {
		if p.Name == pool {
			flags := strings.Split(p.Flags, ",")
			quota = slices.Contains(flags, "full_quota")
			return quota || slices.Contains(flags, "full"), quota, nil
		}
	}
	return false, false, nil
}
