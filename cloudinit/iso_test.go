package cloudinit

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
	"github.com/google/go-cmp/cmp"
)

func TestISO(t *testing.T) {
	files := Files{MetaData: []byte("{}\n"), UserData: bytes.Repeat([]byte("0123456789\n"), 1000)}
	parent := t.TempDir()
	dir := filepath.Join(parent, "web-5a6e215e.seed")
	if err := layOut(dir, Files{NetworkConfig: []byte("of one who has died\n")}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", filepath.Join(parent, "none")) // whatever is written there fails
	image, err := ISO(dir, files)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}

	path := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	disk, err := file.OpenFromPath(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	volume, err := iso9660.Read(disk, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if label := strings.TrimRight(volume.Label(), " \x00"); label != "cidata" {
		t.Errorf("label %q, want cidata", label)
	}
	got := map[string]string{}
	entries, err := volume.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := fs.ReadFile(volume, e.Name())
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(content)
	}
	want := map[string]string{"meta-data": string(files.MetaData), "user-data": string(files.UserData)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// What cannot be made leaves nothing, either.
func TestISOThatCannotBeMadeLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none", "web-5a6e215e.seed")
	if _, err := ISO(dir, Files{}); err == nil {
		t.Error("there is no error")
	}
	if _, err := os.Stat(filepath.Dir(dir)); err == nil {
		t.Error("a directory was made that was to be there")
	}
}

func TestDocumentsAreForThisUserAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web-5a6e215e.seed")
	if err := layOut(dir, Files{MetaData: []byte("{}\n"), UserData: []byte("hush"), NetworkConfig: []byte("{}\n")}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %s, want nothing for others", path, info.Mode())
		}
		return err
	})
	if err != nil || seen != 4 {
		t.Errorf("there are %d files, %v, want the directory and three documents", seen, err)
	}
}
