//go:build lab

package image

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nomad-driver-virt/vm"
)

// What is cut off is refused by Inspect, where that needs what is missing, or
// by Check. A raw image has no end of its own, and a fixed VHD without its end
// is a raw image.
func TestImageThatIsCutOffIsRefused(t *testing.T) {
	for name, path := range images(t) {
		if name == "raw" || name == "fixed vpc" {
			continue
		}
		for _, part := range []int64{2, 10, 50, 90} {
			t.Run(name, func(t *testing.T) {
				size := int64(len(content(t, path)))
				cut := filepath.Join(t.TempDir(), "cut")
				if err := os.WriteFile(cut, content(t, path)[:size*part/100], 0o600); err != nil {
					t.Fatal(err)
				}
				file, err := os.Open(cut)
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				image, err := Inspect(context.Background(), file, "")
				if err == nil {
					err = Check(context.Background(), file, image)
				}
				if err == nil {
					t.Fatalf("%d%% of the file pass", part)
				}
				t.Logf("%d%%: %v", part, err)
				if said := err.Error(); strings.Contains(said, "\n") || strings.Contains(said, "/proc/self") || len(said) > 1000 {
					t.Errorf("the error is %q, want one line with no descriptor", said)
				}
			})
		}
	}
}

func TestDamagedImageIsRefused(t *testing.T) {
	path := images(t)["qcow2"]
	spoil(t, path)
	file, image := inspected(t, path)
	err := Check(context.Background(), file, image)
	if err == nil || !strings.Contains(err.Error(), "the image "+path+" is damaged or cut off; fetch it again") {
		t.Errorf("the error is %v, want one that says that the image is damaged", err)
	}
}

// The image is not to blame for what keeps qemu-img from its work.
func TestCheckThatCannotBeDoneSaysNothingOfTheImage(t *testing.T) {
	file, image := inspected(t, images(t)["qcow2"])
	for name, test := range map[string]struct{ script, want string }{
		"killed":    {"kill -KILL $$", "signal: killed"},
		"not run":   {"echo qemu-img: error while loading shared libraries: libaio.so.1 >&2; exit 127", "shared libraries"},
		"in a VM's": {"echo 'qemu-img: Could not open: Failed to get shared \"write\" lock' >&2; exit 1", "is open in a VM"},
	} {
		t.Run(name, func(t *testing.T) {
			program(t, "qemu-img", test.script)
			err := Check(context.Background(), file, image)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "damaged") {
				t.Errorf("the error is %v, want %q and no word of damage", err, test.want)
			}
		})
	}
}

// Clusters that nothing refers to are left by a program that was killed.
func TestImageWithLeaksPasses(t *testing.T) {
	path := images(t)["qcow2"]
	whole := content(t, path)
	// Where the refcounts of the first block are is in the refcount table, in
	// the second cluster: the last cluster of the file is given another one.
	const cluster = 64 << 10
	end := len(whole) / cluster
	whole = append(whole[:end*cluster], make([]byte, cluster)...)
	whole[2*cluster+2*end+1] = 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := leaks(t, path); !strings.Contains(said, "leaked") {
		t.Fatalf("the image was to have leaks, and qemu-img check says: %s", said)
	}
	file, image := inspected(t, path)
	if err := Check(context.Background(), file, image); err != nil {
		t.Errorf("the error is %v, want none", err)
	}
}

// A check reads the tables of an image and not its data: here those of 2 GiB
// of data take 20 ms.
func TestCheckIsCheap(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large.qcow2")
	tool(t, "create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "2G")
	file, image := inspected(t, path)
	began := time.Now()
	if err := Check(context.Background(), file, image); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the check of %s took %s, want less than 2s", 2*vm.GiB, took)
	}
}
