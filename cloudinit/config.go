package cloudinit

import (
	_ "embed"

	"nomad-driver-virt/vm"
)

// Where the guest finds what the driver wrote.
const (
	directory   = "/etc/nomad-virt"
	envScript   = directory + "/env.sh"
	environment = directory + "/environment"
	runScript   = directory + "/run-cmds"
	profile     = "/etc/profile.d/virt.sh"
	runState    = "/run/nomad-virt"
)

// mergeType merges our cloud-config into the user's: lists are appended to, and
// what the user set stays.
const mergeType = "list(append)+dict(no_replace,recurse_list)+str()"

// appended are the keys of our cloud-config that only a list can take in.
var appended = []string{"bootcmd", "runcmd", "write_files", "ssh_authorized_keys"}

var (
	//go:embed guest/mount-share.sh
	mountShare string
	//go:embed guest/share-env.sh
	shareEnv string
	//go:embed guest/run-cmds.sh
	runLoop string
)

// config is the driver's cloud-config. It names no users and no hostname, so
// that the user's own stand.
type config struct {
	Password          string      `json:"password,omitempty"`
	ChPasswd          *chPasswd   `json:"chpasswd,omitempty"`
	SSHAuthorizedKeys []string    `json:"ssh_authorized_keys,omitempty"`
	Timezone          string      `json:"timezone,omitempty"`
	WriteFiles        []writeFile `json:"write_files"`
	BootCmd           [][]string  `json:"bootcmd,omitempty"`
	RunCmd            [][]string  `json:"runcmd"`
}

// chPasswd keeps cloud-init from expiring the password at the first login.
type chPasswd struct {
	Expire bool `json:"expire"`
}

type writeFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Owner       string `json:"owner"`
	Encoding    string `json:"encoding"`
	Content     []byte `json:"content"` // base64, as encoding/json writes bytes
}

func newConfig(seed vm.Seed) config {
	c := config{
		Password: seed.Password,
		Timezone: seed.Timezone,
		WriteFiles: []writeFile{
			rootFile(envScript, "0600", shellEnv(seed.Env)),
			rootFile(environment, "0600", systemdEnv(seed.Env)),
			rootFile(profile, "0644", "if [ -r "+envScript+" ]; then . "+envScript+"; fi\n"),
		},
		RunCmd: [][]string{{"sh", "-c", shareEnv, "share-env", directory}},
	}
	if seed.Password != "" {
		c.ChPasswd = &chPasswd{Expire: false}
	}
	if seed.AuthorizedKey != "" {
		c.SSHAuthorizedKeys = []string{seed.AuthorizedKey}
	}
	// bootcmd runs at each boot, and before write_files at the first: it brings
	// its script along.
	for _, s := range seed.Shares {
		c.BootCmd = append(c.BootCmd, []string{"sh", "-c", mountShare, "mount-share", string(s.Type), s.Tag, s.Target, access(s)})
	}
	if len(seed.Cmds) > 0 {
		c.WriteFiles = append(c.WriteFiles, rootFile(runScript, "0700", runCmds(seed.Cmds, envScript, runState)))
		c.RunCmd = append(c.RunCmd, []string{runScript})
	}
	return c
}

// access is the option by which a share is mounted.
func access(s vm.Share) string {
	if s.ReadOnly {
		return "ro"
	}
	return "rw"
}

func rootFile(path, permissions, content string) writeFile {
	return writeFile{path, permissions, "root:root", "b64", []byte(content)}
}
