//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const mib = int64(1) << 20

// serveShell has the small guest run what is posted to it, and answer with what
// that prints.
var serveShell = []string{
	`mkdir -p /run/www/cgi-bin`,
	`printf '#!/bin/sh\necho Content-Type: text/plain; echo; exec sh 2>&1\n' > /run/www/cgi-bin/sh`,
	`chmod +x /run/www/cgi-bin/sh`,
	`httpd -p 8000 -h /run/www`,
}

// shell is a guest that runs commands.
type shell struct {
	t   *testing.T
	url string
}

// shell waits for a guest that has serveShell.
func (a allocation) shell(t *testing.T) shell {
	t.Helper()
	s := shell{t, a.url(t, "http", "/cgi-bin/sh")}
	eventually(t, tinyTimeout, "a shell in the guest", func() error {
		_, err := s.try("true", 5*time.Second)
		return err
	})
	return s
}

// run runs a script in the guest, and returns what it printed.
func (s shell) run(script string) string {
	s.t.Helper()
	out, err := s.try(script, time.Minute)
	if err != nil {
		s.t.Fatalf("%s in the guest: %v", script, err)
	}
	return strings.TrimSpace(out)
}

func (s shell) try(script string, within time.Duration) (string, error) {
	client := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Post(s.url, "text/plain", strings.NewReader(script+"\n"))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	out, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, out)
	}
	return string(out), err
}

// digestOf is the SHA-256 of the first bytes of a device of the guest.
func (s shell) digestOf(device string, bytes int64) string {
	s.t.Helper()
	return s.run(fmt.Sprintf("head -c %d /dev/%s | sha256sum | cut -d' ' -f1", bytes, device))
}

// blockDevice is what lsblk in the guest tells of a disk.
type blockDevice struct {
	Name string
	Size int64
	RO   bool
	Type string // "disk" or "rom"
	Tran string // "ata", "sata", "usb"; "" of virtio and virtio-scsi
}

// disks lists the guest's disks by their sizes.
func (s shell) disks() map[int64]blockDevice {
	s.t.Helper()
	var listed struct{ BlockDevices []blockDevice }
	out := s.run("lsblk --json --bytes --nodeps --output NAME,SIZE,RO,TYPE,TRAN")
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		s.t.Fatalf("what lsblk printed: %v\n%s", err, out)
	}
	bySize := make(map[int64]blockDevice)
	for _, d := range listed.BlockDevices {
		bySize[d.Size] = d
	}
	return bySize
}

// ofSizes waits for the guest's disks of these sizes: one on USB takes a second
// to turn up.
func (s shell) ofSizes(bytes ...int64) map[int64]blockDevice {
	s.t.Helper()
	var disks map[int64]blockDevice
	eventually(s.t, 20*time.Second, fmt.Sprintf("disks of %d bytes in the guest", bytes), func() error {
		disks = s.disks()
		for _, size := range bytes {
			if _, is := disks[size]; !is {
				return fmt.Errorf("none has %d, there are %+v", size, disks)
			}
		}
		return nil
	})
	return disks
}

// domainDisk is what libvirt tells of a disk.
type domainDisk struct {
	Device string `xml:"device,attr"`
	Driver struct {
		Name string `xml:"name,attr"`
		Type string `xml:"type,attr"`
	} `xml:"driver"`
	Source struct {
		File string `xml:"file,attr"`
		Dev  string `xml:"dev,attr"`
		Name string `xml:"name,attr"` // of an image in Ceph
	} `xml:"source"`
	Target struct {
		Dev string `xml:"dev,attr"`
		Bus string `xml:"bus,attr"`
	} `xml:"target"`
}

// disksOf lists the disks of a domain by their target names.
func disksOf(t *testing.T, vm string) map[string]domainDisk {
	t.Helper()
	var domain struct {
		Disks []domainDisk `xml:"devices>disk"`
	}
	if err := xml.Unmarshal([]byte(virsh(t, "dumpxml", vm)), &domain); err != nil {
		t.Fatal(err)
	}
	byTarget := make(map[string]domainDisk)
	for _, d := range domain.Disks {
		byTarget[d.Target.Dev] = d
	}
	return byTarget
}

// imageFile names a file among the images, which goes when the test ends.
func imageFile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(imageDir, name)
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// dataImage makes a raw image of random bytes that no image had before. It
// returns their SHA-256, too.
func dataImage(t *testing.T, name string, size int64) (path, digest string) {
	t.Helper()
	path = imageFile(t, name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(f, sum), rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	return path, hex.EncodeToString(sum.Sum(nil))
}

// digestOfFile is the SHA-256 of a file of the host.
func digestOfFile(t *testing.T, path string) string {
	t.Helper()
	digest, _, _ := strings.Cut(command(t, "sha256sum", path), " ")
	return digest
}

// tinyPrimary is the inside of a disk block, from which the small guest boots.
const tinyPrimary = `
	primary = true
	chained = true
	source {
		image = "tiny.qcow2"
	}`

// disk is a disk block.
func disk(lines ...string) string { return "disk {\n" + strings.Join(lines, "\n") + "\n}\n" }

// fromImage is a source block.
func fromImage(image string) string { return fmt.Sprintf("source {\nimage = %q\n}", image) }

func fromVolume(volume string) string { return fmt.Sprintf("source {\nvolume = %q\n}", volume) }
