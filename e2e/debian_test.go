//go:build e2e

package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"nomad-driver-virt/hypervisor"
)

// The tests of this file boot Debian, because they are about what a
// distribution, its cloud-init and its systemd make of a VM.

// hostile is a value of the environment that every layer could get wrong.
const hostile = "  spaces 'single' \"double\" $HOME ${PATH} `id` $(id) \\n back\\slash\ttab\nnew line\n#{x} % & ; | é \x01\x7f end "

// facts is run in the guest, as root, by cmds: it writes what the test wants to
// know into files, which the guest serves.
const facts = `
mkdir -p /run/facts; cd /run/facts
hostname > hostname
cat /etc/timezone > timezone
printf %s "$HOSTILE" > env-cmds
su - debian -c 'printf %s "$HOSTILE"' > env-user
su - -c 'printf %s "$HOSTILE"' > env-root
useradd -m stranger
su - stranger -c 'printf "[%s]" "$HOSTILE"; cat /etc/profile.d/virt.sh /etc/nomad-virt/*' > env-stranger 2>&1
systemd-run --wait --pipe -q -p EnvironmentFile=/etc/nomad-virt/environment sh -c 'printf %s "$HOSTILE"' > env-systemd
cat ~debian/.ssh/authorized_keys > keys
chage -l debian > age
python3 -W ignore -c 'import crypt, spwd; h = spwd.getspnam("debian").sp_pwdp; print(crypt.crypt("pass: \"word\" #1", h) == h)' > password 2>&1
cat /run/user-runcmd > user-runcmd
cat /etc/user-file > user-file
for d in alloc local secrets; do
	mount -o remount,rw /$d 2>/dev/null
	touch /$d/written 2>/dev/null && echo $d
done > written
cat /proc/mounts > mounts
cat /local/index.html > page
cat /proc/sys/kernel/random/boot_id > boot
uname -n > nodename
cat /run/order > order
ip -4 -o address show scope global > address4
ip -6 -o address show scope global > address6
ip -6 route show default > route6
`

func TestGuestIsWhatTheJobSays(t *testing.T) {
	startNetwork(t, "dual", dualNetwork)
	goodbyes := listen(t)
	userData := `#cloud-config
timezone: Europe/Berlin
runcmd:
  - echo "user's" > /run/user-runcmd
write_files:
  - path: /etc/user-file
    content: "the user's"
`
	if err := os.WriteFile("/var/lib/virt/user-data/facts.yaml", []byte(userData), 0o600); err != nil {
		t.Fatal(err)
	}
	// The files are served in the same order at each boot by a unit, which also
	// says goodbye when the guest shuts down.
	unit := fmt.Sprintf(`[Unit]
After=network-online.target
[Service]
WorkingDirectory=/run/facts
ExecStartPre=/bin/sh -c 'cat /proc/sys/kernel/random/boot_id > /run/facts/boot; cat /proc/mounts > /run/facts/mounts'
ExecStart=/usr/bin/python3 -m http.server 8000
ExecStop=/bin/bash -c 'echo goodbye > /dev/tcp/192.168.122.1/%d'
RuntimeDirectory=facts
RuntimeDirectoryPreserve=yes
[Install]
WantedBy=multi-user.target
`, goodbyes.port)
	job := guest{
		Name:   "facts",
		Image:  "debian-12.qcow2",
		Memory: 1024,
		Config: `
			hostname                        = "facts-of-life"
			default_user_password           = "pass: \"word\" #1"
			default_user_authorized_ssh_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2e somebody@somewhere"
			timezone                        = "America/New_York"
			user_data                       = "facts.yaml"`,
		More: `
			env {
				HOSTILE = base64decode("` + base64.StdEncoding.EncodeToString([]byte(hostile)) + `")
			}`,
		Cmds: []string{
			"echo one >> /run/order; false",
			"exit 7",
			"echo 'two: [x]  # {y}' >> /run/order",
			"echo 'unbalanced",
			"cd /etc; three=3",
			`echo "$PWD $three" >> /run/order`,
			"echo " + base64.StdEncoding.EncodeToString([]byte(facts)) + " | base64 -d | sh",
			"echo " + base64.StdEncoding.EncodeToString([]byte(unit)) + " | base64 -d > /etc/systemd/system/facts.service",
			"systemctl enable --now facts.service",
			"echo and so say cmds",
		},
	}
	j := submit(t, job.Name, strings.Replace(job.hcl(t), `"virbr0"`, `"virbr-dual"`, 1))
	a := j.waitRunning()
	url := a.url(t, "http", "/")
	_, port := a.hostPort(t, "http")
	page(t, debianTimeout, url)
	a.waitLog(t, "and so say cmds")
	fact := func(name string) string {
		t.Helper()
		got, err := get(url + name)
		if err != nil {
			t.Errorf("fact %s: %v", name, err)
		}
		return got
	}
	for name, want := range map[string]string{
		"hostname":    "facts-of-life\n",
		"timezone":    "Europe/Berlin\n", // the user's own wins
		"env-cmds":    hostile,
		"env-user":    hostile,
		"env-root":    hostile,
		"env-systemd": hostile,
		"keys":        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2e somebody@somewhere\n",
		"password":    "True\n",
		"user-runcmd": "user's\n",
		"user-file":   "the user's",
		"written":     "",
		"page":        hello,
		"order":       "one\ntwo: [x]  # {y}\n/etc 3\n",
	} {
		if got := fact(name); got != want {
			t.Errorf("%s in the guest is %q, want %q", name, got, want)
		}
	}
	if got := fact("env-stranger"); !strings.HasPrefix(got, "[]") || strings.Contains(got, "single") {
		t.Errorf("another user of the guest reads the task's environment: %q", got)
	}
	if got := fact("age"); !strings.Contains(got, "Password expires					: never") {
		t.Errorf("the default user's password expires: %s", got)
	}
	mounted(t, fact("mounts"))
	// Of both versions of IP, as cloud-init has told what sets the network up.
	for name, want := range map[string]string{
		"address4": "inet 192.168.150.",
		"address6": "inet6 " + guestAddress6(t, port) + "/64",
		"route6":   "default via ", // of the router's advertisements, or of cloud-init's
	} {
		if got := fact(name); !strings.Contains(got, want) {
			t.Errorf("%s in the guest is\n%s\nwant %s", name, got, want)
		}
	}
	agentKnowsItsAddress(t, vmOf(t, "vm-task"), "dual")

	first := fact("boot")
	virsh(t, "reboot", "--mode", "agent", vmOf(t, "vm-task"))
	goodbyes.want(t, "goodbye\n")
	eventually(t, debianTimeout, "another boot", func() error {
		switch now, err := get(url + "boot"); {
		case err != nil:
			return err
		case now == first:
			return errors.New("it has not booted again")
		}
		return nil
	})
	mounted(t, fact("mounts"))
	if a, err := j.newest(); err != nil || a.TaskStates["vm-task"].Restarts != 0 {
		t.Errorf("a reboot in the guest restarted the task (error %v)", err)
	}
	command(t, "nomad", "job", "stop", "-detach", j.name)
	j.waitEvent(debianTimeout, "The guest shut down", "after its agent was asked to")
	j.purge()
	goodbyes.want(t, "goodbye\n")
	nothingLeft(t)
}

// agentKnowsItsAddress asks the guest's agent as the driver does where no libvirt
// network gives the guest its address.
func agentKnowsItsAddress(t *testing.T, name, network string) {
	t.Helper()
	_, reserved, _ := strings.Cut(matching(virsh(t, "net-dumpxml", network)+"\n", "<host mac="), "<host mac='")
	parts := strings.Split(reserved, "'") // 52:54:…' ip='192.168.…'
	if len(parts) < 3 {
		t.Fatalf("no address is reserved: %q", reserved)
	}
	host, err := hypervisor.New("qemu:///system")
	if err != nil {
		t.Fatal(err)
	}
	all, err := host.AgentAddresses(t.Context(), name)
	if err != nil || !slices.Contains(all[parts[0]], netip.MustParseAddr(parts[2])) {
		t.Errorf("the agent tells of %v, %v, want %s at %s", all, err, parts[2], parts[0])
	}
}

func mounted(t *testing.T, mounts string) {
	t.Helper()
	for _, dir := range []string{"alloc", "local", "secrets"} {
		if !strings.Contains(mounts, dir+" /"+dir+" virtiofs ") {
			t.Errorf("/%s is not mounted in the guest:\n%s", dir, mounts)
		}
	}
}

// guestAddress6 is the address of IPv6 that a port of the host leads to.
func guestAddress6(t *testing.T, port string) string {
	t.Helper()
	for line := range strings.Lines(command(t, "nft", "list", "table", "inet", "nomad_virt")) {
		if _, to, is := strings.Cut(line, host6+" . tcp . "+port+" "); is {
			_, to, _ = strings.Cut(to, `" : `)
			addr, _, _ := strings.Cut(to, " ")
			return addr
		}
	}
	t.Fatal("no port of IPv6 is published")
	return ""
}
