//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// loopDir is where the plugin loop-device keeps the files of its devices: part of a
// path that is no other lab's.
var loopDir = "/volumes-of-" + os.Getenv("LAB_INSIDE") + "/"

// nomadVolume makes a dynamic host volume by one of the plugins that the lab
// has: mkdir makes a directory, loop-device a block device. It goes when the test ends.
func nomadVolume(t *testing.T, name, plugin, capacity string) (id string) {
	t.Helper()
	mode := "file-system"
	if plugin == "loop-device" {
		mode = "block-device"
	}
	spec := fmt.Sprintf("type = \"host\"\nname = %q\nplugin_id = %q\ncapacity_min = %q\ncapacity_max = %q\n"+
		"capability {\naccess_mode = \"single-node-single-writer\"\nattachment_mode = %q\n}\n", name, plugin, capacity, capacity, mode)
	file := filepath.Join(t.TempDir(), name+".volume.hcl")
	if err := os.WriteFile(file, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return nomadVolumeOf(t, file)
}

// nomadVolumeOf makes the dynamic host volume that a file describes.
func nomadVolumeOf(t *testing.T, file string) (id string) {
	t.Helper()
	out := command(t, "nomad", "volume", "create", "-detach", file)
	_, id, told := strings.Cut(out, " with ID ")
	if !told {
		t.Fatalf("no ID in what nomad volume create printed: %s", out)
	}
	id = strings.Fields(id)[0]
	t.Cleanup(func() { deleteNomadVolume(t, id) })
	return id
}

// volumesReady waits until Nomad's scheduler has heard of all volumes.
func volumesReady(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, "volumes that are ready", func() error {
		if all := nomadVolumes(t); strings.Count(all, "\n") != strings.Count(all, " ready\n") {
			return errors.New(all)
		}
		return nil
	})
}

type hostVolume struct{ ID, Name, State, HostPath string }

func nomadVolumeStatus(t *testing.T, id string) hostVolume {
	t.Helper()
	var v hostVolume
	if err := json.Unmarshal([]byte(command(t, "nomad", "volume", "status", "-type", "host", "-json", id)), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// deleteNomadVolume also waits until the allocations that had it are told to be
// over. One that is gone already is fine.
func deleteNomadVolume(t *testing.T, id string) {
	t.Helper()
	eventually(t, endTimeout, "removal of volume "+id, func() error {
		if !strings.Contains(nomadVolumes(t), id) {
			return nil
		}
		_, err := try("nomad", "volume", "delete", "-type", "host", id)
		return err
	})
}

// nomadVolumes lists the dynamic host volumes, a line each.
func nomadVolumes(t *testing.T) string {
	t.Helper()
	out := command(t, "nomad", "volume", "status", "-type", "host", "-json")
	if out == "" {
		return ""
	}
	var listed []hostVolume
	if err := json.Unmarshal([]byte(out), &listed); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, v := range listed {
		fmt.Fprintln(&b, v.ID, v.Name, v.State)
	}
	return b.String()
}

// loopDevices lists those whose file is a Nomad volume of this lab.
func loopDevices(t *testing.T) string {
	t.Helper()
	return matching(command(t, "losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE")+"\n", loopDir)
}

// groupVolume and taskVolume are the blocks of a group and of a task that give a task a volume
// of its name.
func groupVolume(name, attachment string) string {
	return fmt.Sprintf("volume %q {\ntype = \"host\"\nsource = %q\naccess_mode = \"single-node-single-writer\"\n"+
		"attachment_mode = %q\n}\n", name, name, attachment)
}

func taskVolume(name, destination string, readOnly bool) string {
	return fmt.Sprintf("volume_mount {\nvolume = %q\ndestination = %q\nread_only = %t\n}\n", name, destination, readOnly)
}

func TestNomadVolumeIsADiskThatOutlivesItsJobs(t *testing.T) {
	const blank, data, archive = "e2e-blank", "e2e-data", "e2e-archive"
	group := ""
	for name, capacity := range map[string]string{blank: "64MiB", data: "65MiB", archive: "66MiB"} {
		nomadVolume(t, name, "loop-device", capacity)
		group += groupVolume(name, "block-device")
	}
	volumesReady(t)
	start := func(name, config string, readOnly bool) (*job, shell) {
		j := guest{
			Name: name, Group: group, Disk: tinyPrimary, Cmds: serveShell, Config: config,
			Restart: "restart {\n attempts = 1\n delay = \"0s\"\n interval = \"10m\"\n mode = \"fail\"\n }",
			More:    taskVolume(blank, "/dev/vdb", false) + taskVolume(data, "/dev/vdc", false) + taskVolume(archive, "/dev/vdd", readOnly),
		}.submit(t)
		return j, j.waitRunning().shell(t)
	}
	device := func(s shell, size int64) string { return "/dev/" + s.ofSizes(size * mib)[size*mib].Name }
	// A file on the image's own partition tells whether somebody wrote to the disk.
	write := func(s shell, partition, text string) {
		t.Helper()
		s.run("mkdir -p /mnt; mount " + partition + " /mnt && echo " + text + " > /mnt/note; umount /mnt")
	}
	read := func(s shell, partition string) string {
		t.Helper()
		return s.run("mkdir -p /mnt; mount -o ro " + partition + " /mnt && cat /mnt/note; umount /mnt")
	}
	withImage := func(volume string, more ...string) string {
		return disk("volume = \""+volume+"\"", "source {\nimage = \"tiny.qcow2\"\n"+strings.Join(more, "\n")+"\n}")
	}

	// The image goes to the blank device, the others are written by the guest.
	j, s := start("volumes-1", withImage("/dev/vdb")+disk(`volume = "/dev/vdc"`)+disk(`volume = "/dev/vdd"`), false)
	if got := s.run("head -c 1048576 " + device(s, 65) + " | tr -d '\\0' | wc -c"); got != "0" {
		t.Errorf("a new volume without an image holds %s bytes", got)
	}
	write(s, device(s, 64)+"1", "first")
	for _, size := range []int64{65, 66} {
		s.run("mke2fs " + device(s, size))
		write(s, device(s, size), fmt.Sprint("first on ", size))
	}
	j.purge()
	nothingLeft(t, blank, data, archive, loopDir)

	// The next job finds what the first one left, but where it overwrites.
	config := withImage("/dev/vdb") + withImage("/dev/vdc", "overwrite = true") + disk(`volume = "/dev/vdd"`)
	j, s = start("volumes-2", config, true)
	if got := read(s, device(s, 64)+"1"); got != "first" {
		t.Errorf("the volume that held an image holds %q now, want it left alone", got)
	}
	a := j.waitEvent(startTimeout, "vdb", "holds data")
	if a.tells("vdc", "holds data") {
		t.Errorf("the disk to be overwritten was left as it is:\n%s", a.events())
	}
	if got := s.run("mkdir -p /mnt; mount -o ro " + device(s, 65) + "1 /mnt && ls /mnt; umount /mnt"); !strings.Contains(got, "boot") {
		t.Errorf("the volume to be overwritten was not: %s", got)
	}
	if got := read(s, device(s, 66)); got != "first on 66" {
		t.Errorf("the volume without an image holds %q", got)
	}
	if !s.disks()[66*mib].RO {
		t.Error("the volume that is mounted read-only can be written")
	}
	write(s, device(s, 65)+"1", "second")

	// Another start in the same allocation overwrites nothing.
	command(t, "nomad", "alloc", "restart", a.ID)
	a = j.waitRunning()
	s = a.shell(t)
	if got := read(s, device(s, 65)+"1"); got != "second" {
		t.Errorf("after a restart of the task the volume holds %q, want what the guest wrote", got)
	}
	j.purge()
	nothingLeft(t, blank, data, archive, loopDir)

	// A loop device does not know the commands that a LUN hands on.
	j = guest{
		Name: "volumes-3", Group: group, Disk: tinyPrimary, More: taskVolume(archive, "/dev/sdx", false),
		Config: disk("kind = \"lun\"\nbus_type = \"scsi\"\nvolume = \"/dev/sdx\""),
	}.submit(t)
	if a := j.waitFailed(); !a.tells("could not start the VM", "scsi-block", "SG_IO") {
		t.Errorf("no event tells that the device cannot be a LUN:\n%s", a.events())
	}
	j.purge()
	nothingLeft(t, blank, data, archive, loopDir)
}

func TestNomadVolumeIsADirectoryOfTheGuest(t *testing.T) {
	const shared, fixed = "e2e-shared", "e2e-fixed"
	// One is of Nomad's configuration, the other dynamic.
	group := "volume \"" + shared + "\" {\ntype = \"host\"\nsource = \"static\"\n}\n" + groupVolume(fixed, "file-system")
	paths := map[string]string{
		shared: "/var/lib/virt/static",
		fixed:  nomadVolumeStatus(t, nomadVolume(t, fixed, "mkdir", "1MiB")).HostPath,
	}
	t.Cleanup(func() { os.RemoveAll(paths[shared] + "/dir") })
	volumesReady(t)
	if err := os.WriteFile(paths[fixed]+"/note", []byte("from the host"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mounts := range []string{"virtiofs", "9p"} {
		t.Run(mounts, func(t *testing.T) {
			j := guest{
				Name: "directories-" + mounts, Group: group, Cmds: serveShell, Config: `mounts = "` + mounts + `"`,
				More: taskVolume(shared, "/srv/shared", false) + taskVolume(fixed, "/srv/fixed", true),
			}.submit(t)
			s := j.waitRunning().shell(t)
			check := func(boot string) {
				t.Helper()
				if got := s.run("grep ' /srv/' /proc/mounts"); strings.Count(got, " "+mounts+" ") != 2 {
					t.Errorf("want two directories mounted by %s, got\n%s", mounts, got)
				}
				if got := s.run("cat /srv/fixed/note; mount -o remount,rw /srv/fixed; echo x > /srv/fixed/note; touch /srv/fixed/other; ls /srv/fixed"); !strings.Contains(got, "from the host") {
					t.Errorf("the guest does not see the file of the host: %s", got)
				}
				if files := listed(t, paths[fixed]); files != paths[fixed]+"/note" {
					t.Errorf("the guest wrote to a directory that is read-only: %s", files)
				}
				s.run("mkdir -p /srv/shared/dir && echo " + boot + " > /srv/shared/dir/note")
				if got, err := os.ReadFile(paths[shared] + "/dir/note"); err != nil || string(got) != boot+"\n" {
					t.Errorf("the host sees %q of what the guest wrote (error %v)", got, err)
				}
			}
			check("first-" + mounts)
			if mounts != "virtiofs" { // both are mounted by the same command at each boot
				j.purge()
				nothingLeft(t, shared, fixed)
				return
			}
			before := s.run("cat /proc/sys/kernel/random/boot_id")
			s.run("(sleep 1; reboot) > /dev/null 2>&1 &")
			eventually(t, tinyTimeout, "another boot", func() error {
				now, err := s.try("cat /proc/sys/kernel/random/boot_id", 5*time.Second)
				if err == nil && strings.TrimSpace(now) == before {
					err = errors.New("it has not booted again")
				}
				return err
			})
			check("second-" + mounts)
			j.purge()
			nothingLeft(t, shared, fixed)
		})
	}
	if got, err := os.ReadFile(paths[fixed] + "/note"); err != nil || string(got) != "from the host" {
		t.Errorf("the file of the read-only directory is %q now (error %v)", got, err)
	}
}
