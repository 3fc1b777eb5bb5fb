package cloudinit

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"

	"nomad-driver-virt/memfile"
)

// volumeLabel is how cloud-init finds the disk of a NoCloud data source.
const volumeLabel = "cidata"

// ISO returns an ISO 9660 image with the documents, by the names that cloud-init
// looks for. The image holds the time at which it was made. The documents, which
// hold secrets, are files in a directory meanwhile, which is made for them and is
// gone afterwards: it is to be on a file system in memory.
func ISO(dir string, files Files) ([]byte, error) {
	defer os.RemoveAll(dir)
	image, err := writeISO(dir, files)
	if err != nil {
		return nil, fmt.Errorf("seed image: %w", err)
	}
	return image, nil
}

func writeISO(dir string, files Files) ([]byte, error) {
	if err := layOut(dir, files); err != nil {
		return nil, err
	}
	image, err := memfile.Empty("seed.iso")
	if err != nil {
		return nil, err
	}
	defer image.Close()
	fs, err := iso9660.Create(file.New(image, false), 0, 0, 0, dir)
	if err != nil {
		return nil, err
	}
	if err := fs.Finalize(iso9660.FinalizeOptions{VolumeIdentifier: volumeLabel, RockRidge: true, Joliet: true}); err != nil {
		return nil, err
	}
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(image)
}

// layOut makes a directory with the documents, for this user alone. Whatever was
// there is of one who has died over it.
func layOut(dir string, files Files) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	documents := map[string][]byte{"meta-data": files.MetaData, "user-data": files.UserData}
	if files.NetworkConfig != nil {
		documents["network-config"] = files.NetworkConfig
	}
	for name, content := range documents {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
