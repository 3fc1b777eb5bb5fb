package main

import (
	"cmp"
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"nomad-driver-virt/doctest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// restSection is the part of docs/messages.md that has what no other part has.
const restSection = "messages that are left"

// whatItIsAbout explains the errors of a package that have no explanation of their
// own.
var whatItIsAbout = map[string]string{
	"agentfile":  "Said by commands of the program: the file that `-config` names.",
	"cli":        "Said by [commands](commands.md) of the program.",
	"doctor":     "Said by `doctor`, with what mends it.",
	"systemd":    "In the agent's log, or said by `doctor`: systemd was asked over D-Bus, and has not answered.",
	"bridge":     "The host's network devices could not be read or changed. Nomad's client has to run as root.",
	"cloudinit":  "The seed for cloud-init could not be made.",
	"console":    "In the agent's log: the guest's console could not be copied to the task's log. The VM goes on.",
	"dhcp":       "In the agent's log: the lease ends by itself, an hour after the guest asked for it last, and nobody else gets the address before.",
	"domxml":     "libvirt said something that the driver does not understand, or somebody has edited the domain's metadata.",
	"driver":     causeFollows,
	"hostfile":   "The path is that of a directory, a device or a FIFO.",
	"hypervisor": "libvirt did not do what was asked" + inItsWords + ". `journalctl -u libvirtd` may have more.",
	"image":      "The image or the device could not be read, or not be written as a whole.",
	"memfile":    "The host has no memory or no file descriptors left, as a rule. What follows is the cause.",
	"portmap":    "The kernel's rules could not be read or changed, or a port cannot be published.",
	"rbd":        "`rbd` did not do what was asked. `ceph -s` tells how the cluster is.",
	"share":      "A directory could not be mounted for the VM. Nomad's client has to run as root.",
	"storage":    "A volume could not be found, made, renamed or removed.",
}

// Said of errors that end with their cause, and of no others.
const (
	causeFollows = "What follows is the cause."
	inItsWords   = "; what follows is in its own words"
)

// explained are errors that say less than is to be known, by how they begin.
var explained = map[string]string{
	"Nomad gave port … the IPv6 address …, and this client": "[clean-traffic](networking.md#filters) lets no IPv6 through.",
	"the address of VM … in network … is not known":         "In the agent's log: `virsh net-list --all` shows whether the network runs. Ports stay as they are.",
	"…: … is another machine's, which answers":              "It was asked by ARP. `ip neigh` and `virsh list` may tell whose hardware address that is.",
	"…: published ports would lead to …":                    "`ip route get ADDRESS` tells the way that the kernel takes. See [An address of the job's choice](networking.md#an-address-of-the-jobs-choice).",
	"the plugin runs as user …, as Nomad's client does":     "The driver is unhealthy. [Who runs as what](install.md#who-runs-as-what) tells what takes root.",
	"the network does not run, so that nobody":              "In the agent's log: the lease of a VM that is removed stays until it is over.",
	"whether ":                                       "`validate` lists it among what only the node can tell.",
	"DHCP was told several times":                    "In the agent's log. `journalctl` has what `dnsmasq-dhcp` says of its network.",
	"it refused the name or the password":            "They are kept by `saslpasswd2 -a libvirt USER` on the host.",
	"… is what the first beta was called":            "Said by `validate`. See [Migrating](migrating.md#from-hashicorps-nomad-driver-virt).",
	"it asks for a name and a password":              "`auth_unix_rw` in `libvirtd.conf` or `virtqemud.conf` says so.",
	"its directory … is not there":                   "The driver makes no directory where one has been: it would hide that a file system is missing.",
	"the block device … is in use on the host":       "`lsblk`, `fuser -v DEVICE` and `dmsetup ls` tell by what.",
	"the block device … is in use: a VM":             "The same volume is in another task, or in a VM of somebody else's.",
	"an image was being written to …":                "The host or the plugin ended in the middle of it.",
	"… is open for writing":                          "`fuser -v FILE` tells by what.",
	"looking for qemu-img":                           "`apt install qemu-utils`, on RHEL `dnf install qemu-img`.",
	"running …, which Debian has in ceph-common":     "`apt install ceph-common`.",
	"the guest was shut down because its host":       "The task is started again when the host is back, or elsewhere, as `restart` and `reschedule` say.",
	"… (what was made could not be removed yet":      "It is removed when that is possible; nothing needs to be done.",
	"removing VM …, which an earlier start":          "A start that was cut off has left it.",
	"removing VM …, which belongs to no task":        "In the agent's log. It is tried again as long as the plugin runs.",
	"VM … is gone":                                   "It ended while no plugin ran; what follows is all that is known. Nomad starts the task anew, as its `restart` says.",
	"qemu-img was stopped":                           "So that a hostile image does not use up the host.",
	"too many guests' agents are being asked":        "The power button is pressed meanwhile.",
	"Nomad gave port … the address":                  "The client's `host_network` of that port is of `::1`, or of one link (`fe80::`), from where Linux forwards to no other machine; or it is no address of one machine, as `0.0.0.0`.",
	"VM … was destroyed, and libvirt still":          "QEMU does not end, as when its storage does not answer. `virsh list` shows the VM; `virsh destroy VM` ends it once that answers.",
	"by 9p the guest would miss":                     "See [directories of the allocation](apparmor.md#directories-of-the-allocation). `doctor` tells how it is on a host.",
	"no host and port":                               "A monitor of a Ceph pool is to be `address:port`; `storage_pools` of the plugin's configuration names them.",
	"it was not done within …":                       "A program that publishes ports (`nft`, `iptables`) hangs, or the host is overloaded.",
	"somebody has stopped it meanwhile":              "The task's libvirt network, which ran a moment before.",
	"the note cannot be read":                        "In the agent's log: somebody has edited the domain's metadata. The guest's address is looked for anew.",
	"the VM is gone":                                 "It was removed while its guest's address was looked for. Nothing is to be done.",
	"… is not supported by this driver; leave":       "Said by `validate` of a group's `network` block. `mode = \"bridge\"` and others make a network namespace for processes, which no VM is in: it has interfaces of its own.",
	"… is larger than …":                             "Said of user data, of which 16MiB are the most.",
	"the plugin's configuration has no storage pool": "It was taken out of the configuration while a task that uses it ran.",
	"the configuration of plugin … cannot be read":   "Nomad and the plugin do not fit together.",
	"libvirt refuses to open …":                      "What follows is in libvirt's words. Nomad's client has to run as root, or as a user that libvirt lets in.",
	"could not tell what the host can do":            "libvirt is away, or has no QEMU. Nomad tries again where that can help.",
	"… is no regular file":                           "The path is that of a directory, a device or a FIFO.",
	"the machine type has no …":                      "Name another `os.machine`, or leave `bus_type` out.",
	"libvirt has another secret for the Ceph usage":  "Somebody has defined one for that pool by hand.",

	// Of packages whose errors are about something else, as a rule.
	"libvirt did not answer":                         noAnswer,
	"…: libvirt did not answer":                      noAnswer,
	"libvirt has not answered":                       noAnswer,
	"…: libvirt still does":                          noAnswer,
	"…: network … is being changed":                  noAnswer,
	"…: others are chosen there":                     noAnswer,
	"libvirt at … has answered none":                 "In the agent's log, and the driver's health: libvirt hangs. The driver connects again by itself.",
	"reading the metadata of domain":                 "Somebody has edited it, or a later version of the driver has written it. The VM is left as it is: `virsh dumpxml VM` shows it.",
	"looking for prlimit":                            "`apt install util-linux`. It bounds what `qemu-img` may use.",
	"the image is ":                                  refusedImage,
	"the image has ":                                 refusedImage,
	"the image says ":                                refusedImage,
	"images of format … are not supported":           refusedImage,
	"the image … is damaged":                         refusedImage,
	"the image … is open in a VM":                    "Something writes to it, so that a copy would be of no use. `fuser -v FILE` tells what.",
	"the block device … is of no size":               "`blockdev --getsize64 DEVICE` tells its size: was it made whole?",
	"the Ceph monitor … of pool":                     monitorOfPool,
	"none is named":                                  monitorOfPool,
	"a monitor of Ceph pool":                         monitorOfPool,
	"the key of the Ceph client":                     keyOfPool,
	"the key of client.… for":                        keyOfPool,
	"the volume … is of format …; a volume of":       "A mistake of the driver's. Nothing was written.",
	"it has that size already":                       "Nothing is to be done.",
	"…: the name of a volume must not be empty":      "Name another in `source.volume`.",
	"bridge …: the name must be":                     checkedAgain,
	"the VM's name must be":                          checkedAgain,
	"guest address …":                                checkedAgain,
	"port …: ":                                       checkedAgain,
	"must be ":                                       checkedAgain,
	"is of one link alone":                           "Said of a port's address on the host: the client's `host_network` has to have another.",
	"no way leads from ::1":                          "Said of a port's address on the host: the client's `host_network` has to have another.",
	"IPv6 is off on this host":                       "A port cannot be published on IPv6. `sysctl net.ipv6.conf.all.disable_ipv6` tells.",
	"the host forwards no IPv4":                      "A published port would not reach the guest, but for those on loopback.",
	"the host forwards no IPv6":                      "A port published on IPv6 would not reach the guest.",
	"the host has no route there":                    "Said of an `address` of the job's with `ports`. See [An address of the job's choice](networking.md#an-address-of-the-jobs-choice).",
	"… is no name of a VM":                           "A mistake of the driver's. Nothing was made.",
	"unmounting a directory of VM":                   "A directory that the VM had is still mounted on the host: `findmnt` shows it. What follows is the cause.",
	"looking for the mounts of VM":                   "`/proc/self/mountinfo` could not be read.",
	"a message of type …":                            noLibvirt,
	"a reply of … bytes":                             noLibvirt,
	"libvirt's reply is cut short":                   noLibvirt,
	"logging in by …: it did not prove":              "What answers there does not know the password either: it may be another program than libvirt.",
	"domain … is not of this driver":                 "A domain has the name of a VM, and nothing in its metadata says that this driver has made it. It is left alone.",
	"no such domain":                                 "The VM is gone, and its domain with it.",
	"the connection to libvirt was ended":            "The driver has ended it: the plugin is ending, or a command of the program.",
	"making its directory":                           "The directory of a storage pool. What follows is the cause.",
	"the pool's directory is not there, is its file": "`findmnt` tells what is mounted. What follows is in libvirt's words.",
	"the pool is stopped":                            "`virsh pool-list --all` shows it, `virsh pool-start POOL` starts it.",
	"libvirt has no network filter":                  "Correct `nwfilter` in the plugin's configuration, or define the filter by `virsh nwfilter-define`.",
	"…: it finds no QEMU for the host's own":         "`apt install qemu-system-x86`, or `qemu-system-arm` on ARM, and restart libvirtd.",
	"the user data decompresses to more than":        "Said of the task's `user_data`.",
}

// Said of several errors.
const (
	noAnswer      = "libvirt, or a QEMU or a file system that it waits for, hangs. What follows tells that the time was over. `journalctl -u libvirtd` may have more."
	refusedImage  = "The image is refused, and nothing was made of it. See [What a disk is made from](storage.md#what-a-disk-is-made-from)."
	monitorOfPool = "Said of `hosts` of a Ceph pool in the plugin's configuration."
	keyOfPool     = "Said of `authentication.secret` of a Ceph pool in the plugin's configuration."
	checkedAgain  = "A port cannot be published: what is asked for is checked before any rule is changed."
	noLibvirt     = "What answers at libvirt's socket does not speak as libvirt does. `systemctl status libvirtd` tells what is there."
)

// neverSaid are errors that nobody gets to see.
var neverSaid = []string{
	"problems were found", // of a command, which has printed them
}

// constructors make errors, of a text that is not before one of their arguments.
var constructors = map[string]int{"Errorf": 0, "New": 0, "addf": 1}

// Every error that the driver can make is in docs/messages.md, where a user can
// find it. What the packages' own tests do not provoke stands there as the source
// has it.
func TestEveryErrorIsInTheListOfMessages(t *testing.T) {
	content, err := os.ReadFile("docs/messages.md")
	if err != nil {
		t.Fatal(err)
	}
	others, _, found := strings.Cut(string(content), "<!-- "+restSection)
	if !found {
		t.Fatalf("docs/messages.md has no part for %s", restSection)
	}
	others = strings.ReplaceAll(others, `\|`, "|")
	var rest []doctest.Message
	used := make(map[string]bool)
	for _, dir := range slices.Sorted(maps.Keys(internal)) {
		if dir == "" || dir == "vm" || strings.HasSuffix(dir, "test") {
			continue
		}
		for constructor, from := range constructors {
			for _, text := range doctest.Texts(t, constructor, from, dir) {
				if text.Words() > 0 && !slices.Contains(neverSaid, text.Shown()) && !text.Pattern().MatchString(others) {
					top, _, _ := strings.Cut(dir, "/")
					rest = append(rest, doctest.Message{Said: text.Shown(), Why: why(t, used, top, text.Shown())})
				}
			}
		}
	}
	for begins := range explained {
		if !used[begins] {
			t.Errorf("no error that is left begins with %q any more", begins)
		}
	}
	slices.SortFunc(rest, func(a, b doctest.Message) int {
		return cmp.Or(cmp.Compare(a.Said, b.Said), cmp.Compare(a.Why, b.Why))
	})
	doctest.Page(t, "docs/messages.md", *update, doctest.Section{Name: restSection, Text: doctest.Messages(slices.Compact(rest))})
}

func why(t *testing.T, used map[string]bool, dir, said string) string {
	t.Helper()
	for begins, why := range explained {
		if strings.HasPrefix(said, begins) {
			used[begins] = true
			return why
		}
	}
	if whatItIsAbout[dir] == "" {
		t.Errorf("package %s has an error, and nothing tells what its errors are about: %s", dir, said)
	}
	about := whatItIsAbout[dir]
	if !strings.HasSuffix(said, ": …") && !strings.HasSuffix(said, "? …") {
		if about == causeFollows {
			t.Errorf("no cause follows this error, tell what it means: %s", said)
		}
		about = strings.Replace(about, inItsWords, "", 1)
	}
	return about
}
