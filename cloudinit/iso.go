package cloudinit

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// volumeLabel is how cloud-init finds the disk of a NoCloud data source.
const volumeLabel = "cidata"

// ISO returns an ISO 9660 image with the documents, by the names that cloud-init
// looks for. The image holds the time at which it was made. It is built in a
// private temporary directory, which is gone afterwards.
func ISO(files Files) ([]byte, error) {
	dir, err := os.MkdirTemp("", "cidata-")
	if err != nil {
		return nil, fmt.Errorf("seed image: %w", err)
	}
	defer os.RemoveAll(dir)

	image := filepath.Join(dir, "seed.iso")
	if err := writeISO(image, filepath.Join(dir, "files"), files); err != nil {
		return nil, fmt.Errorf("seed image: %w", err)
	}
	return os.ReadFile(image)
}

func writeISO(image, workspace string, files Files) error {
	if err := os.Mkdir(workspace, 0o700); err != nil {
		return err
	}
	documents := map[string][]byte{"meta-data": files.MetaData, "user-data": files.UserData}
	if files.NetworkConfig != nil {
		documents["network-config"] = files.NetworkConfig
	}
	for name, content := range documents {
		if err := os.WriteFile(filepath.Join(workspace, name), content, 0o600); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	fs, err := iso9660.Create(file.New(f, false), 0, 0, 0, workspace)
	if err != nil {
		return err
	}
	return fs.Finalize(iso9660.FinalizeOptions{VolumeIdentifier: volumeLabel, RockRidge: true, Joliet: true})
}
