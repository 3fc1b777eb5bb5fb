package vm

import (
	"slices"
	"testing"
)

func TestBytesString(t *testing.T) {
	for b, want := range map[Bytes]string{
		0:                 "0 bytes",
		100:               "100 bytes",
		1023:              "1023 bytes",
		KiB:               "1KiB",
		1536:              "1.5KiB",
		512 * MiB:         "512MiB",
		10 * GiB:          "10GiB",
		GiB + 512*MiB:     "1.5GiB",
		20_000_000_000:    "18.6GiB",
		1024 * GiB:        "1TiB",
		1 << 60:           "1048576TiB",
		GiB + 1:           "1.0GiB",
		MiB - 1:           "1024.0KiB",
		Bytes(^uint64(0)): "16777216.0TiB",
	} {
		if got := b.String(); got != want {
			t.Errorf("%d bytes are written %q, want %q", uint64(b), got, want)
		}
	}
}

// What Volumes leaves out is left behind when the VM is removed.
func TestVolumesAreAllThatIsMadeForTheVMAlone(t *testing.T) {
	s := Spec{
		Disks: []Disk{
			{Volume: Volume{Pool: "local", Name: "copied"}},
			{
				Volume: Volume{Pool: "local", Name: "overlay"},
				Base: &Base{
					Volume:  Volume{Pool: "local", Name: "base of many"},
					Staging: Volume{Pool: "local", Name: "staging"},
				},
			},
			{
				Volume: Volume{Pool: "local", Name: "overlay of a volume"},
				Base:   &Base{Volume: Volume{Pool: "local", Name: "somebody's volume"}},
			},
			{Volume: Volume{Path: "/dev/loop0"}},
		},
		SeedVolume: Volume{Pool: "local", Name: "seed"},
	}
	var got []string
	for _, v := range s.Volumes() {
		got = append(got, v.Name)
	}
	if want := []string{"copied", "overlay", "staging", "overlay of a volume", "seed"}; !slices.Equal(got, want) {
		t.Errorf("Volumes() = %q, want %q", got, want)
	}
}
