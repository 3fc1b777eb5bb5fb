package driver

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/shared/hclspec"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/vm"
)

// Config is the plugin's configuration, the agent's
// plugin "nomad-driver-virt" { config { … } }, as it is written there.
type Config struct {
	ImagePaths    []string      `codec:"image_paths"`
	UserDataPaths []string      `codec:"user_data_paths"`
	Provider      *Provider     `codec:"provider"`
	StoragePools  *StoragePools `codec:"storage_pools"`
	Acceleration  string        `codec:"acceleration"`
	CPUModel      string        `codec:"cpu_model"`
	NWFilter      string        `codec:"nwfilter"` // "": none
	// RemoveOrphansAfter is how long a VM may belong to no task.
	RemoveOrphansAfter string `codec:"remove_orphans_after"`

	// Of the driver's betas: see translate.
	Emulator *Emulator `codec:"emulator"`
	DataDir  string    `codec:"data_dir"`
}

// Provider is the provider block: which libvirt, and how to reach it.
type Provider struct {
	Libvirt *Libvirt `codec:"libvirt"`
}

// Libvirt is the block provider "libvirt".
type Libvirt struct {
	URI                         string `codec:"uri"`
	User                        string `codec:"user"`
	Password                    string `codec:"password"`
	AllowInsecureReadonlyMounts bool   `codec:"allow_insecure_readonly_mounts"`
}

// StoragePools is the block storage_pools. The pools' names are their labels.
type StoragePools struct {
	Default string `codec:"default"`
	// KeepUnusedBases is how long a base stays that no disk overlays.
	KeepUnusedBases string                   `codec:"keep_unused_bases"`
	Directory       map[string]DirectoryPool `codec:"directory"`
	Ceph            map[string]CephPool      `codec:"ceph"`
}

// DirectoryPool is a storage pool that is a directory of the host.
type DirectoryPool struct {
	Path string `codec:"path"`
}

// CephPool is a storage pool that is a pool of RADOS block devices.
type CephPool struct {
	Pool           string              `codec:"pool"`
	Hosts          []string            `codec:"hosts"`
	Authentication *CephAuthentication `codec:"authentication"`
}

// CephAuthentication is a Ceph client's name, and its key in base64.
type CephAuthentication struct {
	Username string `codec:"username"`
	Secret   string `codec:"secret"`
}

// Emulator is the betas' name for the block provider "libvirt".
type Emulator struct {
	URI      string `codec:"uri"`
	User     string `codec:"user"`
	Password string `codec:"password"`
}

// Defaults of the plugin's configuration.
const (
	defaultURI      = "qemu:///system"
	defaultPool     = "nomad" // "default" is what other tools call a pool elsewhere
	defaultPoolPath = "/var/lib/virt/storage"

	defaultKeepUnusedBases    = "24h"
	defaultRemoveOrphansAfter = "5m"
	// leastForOrphans is how long tasks may take to be recovered after a restart.
	leastForOrphans = time.Minute

	accelerationAuto = "auto"
	accelerationKVM  = "kvm"
	accelerationTCG  = "tcg"
)

// configSpec is the schema of Config. Nothing in it is required: validate says
// what is missing, and where, better than the schema can.
var configSpec = hclspec.NewObject(map[string]*hclspec.Spec{
	"image_paths":     hclspec.NewAttr("image_paths", "list(string)", false),
	"user_data_paths": hclspec.NewAttr("user_data_paths", "list(string)", false),
	"acceleration":    hclspec.NewAttr("acceleration", "string", false),
	"cpu_model":       hclspec.NewAttr("cpu_model", "string", false),
	"nwfilter":        hclspec.NewAttr("nwfilter", "string", false),

	"remove_orphans_after": hclspec.NewAttr("remove_orphans_after", "string", false),
	"provider": hclspec.NewBlock("provider", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"libvirt": hclspec.NewBlock("libvirt", false, hclspec.NewObject(map[string]*hclspec.Spec{
			"uri":                            hclspec.NewAttr("uri", "string", false),
			"user":                           hclspec.NewAttr("user", "string", false),
			"password":                       hclspec.NewAttr("password", "string", false),
			"allow_insecure_readonly_mounts": hclspec.NewAttr("allow_insecure_readonly_mounts", "bool", false),
		})),
	})),
	"storage_pools": hclspec.NewBlock("storage_pools", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"default":           hclspec.NewAttr("default", "string", false),
		"keep_unused_bases": hclspec.NewAttr("keep_unused_bases", "string", false),
		"directory": hclspec.NewBlockMap("directory", []string{"name"}, hclspec.NewObject(map[string]*hclspec.Spec{
			"path": hclspec.NewAttr("path", "string", false),
		})),
		"ceph": hclspec.NewBlockMap("ceph", []string{"name"}, hclspec.NewObject(map[string]*hclspec.Spec{
			"pool":  hclspec.NewAttr("pool", "string", false),
			"hosts": hclspec.NewAttr("hosts", "list(string)", false),
			"authentication": hclspec.NewBlock("authentication", false, hclspec.NewObject(map[string]*hclspec.Spec{
				"username": hclspec.NewAttr("username", "string", false),
				"secret":   hclspec.NewAttr("secret", "string", false),
			})),
		})),
	})),
	"emulator": hclspec.NewBlock("emulator", false, hclspec.NewObject(map[string]*hclspec.Spec{
		"uri":      hclspec.NewAttr("uri", "string", false),
		"user":     hclspec.NewAttr("user", "string", false),
		"password": hclspec.NewAttr("password", "string", false),
	})),
	"data_dir": hclspec.NewAttr("data_dir", "string", false),
})

// withDefaults returns the configuration with all that was left out filled in,
// its maps and blocks there. It does not validate.
func (c Config) withDefaults() Config {
	libvirt := Libvirt{}
	if c.Provider != nil && c.Provider.Libvirt != nil {
		libvirt = *c.Provider.Libvirt
	}
	if libvirt.URI == "" {
		libvirt.URI = defaultURI
	}
	c.Provider = &Provider{Libvirt: &libvirt}

	pools := StoragePools{}
	if c.StoragePools != nil {
		pools = *c.StoragePools
	}
	if len(pools.Directory)+len(pools.Ceph) == 0 && pools.Default == "" {
		pools.Directory = map[string]DirectoryPool{defaultPool: {Path: defaultPoolPath}}
	}
	if pools.KeepUnusedBases == "" {
		pools.KeepUnusedBases = defaultKeepUnusedBases
	}
	if names := pools.names(); len(names) == 1 && pools.Default == "" {
		pools.Default = names[0]
	}
	c.StoragePools = &pools

	if c.Acceleration == "" {
		c.Acceleration = accelerationAuto
	}
	if c.RemoveOrphansAfter == "" {
		c.RemoveOrphansAfter = defaultRemoveOrphansAfter
	}
	return c
}

// names lists the pools by name, sorted. A name that is there twice is there
// twice.
func (p *StoragePools) names() []string {
	names := slices.AppendSeq(slices.Collect(maps.Keys(p.Directory)), maps.Keys(p.Ceph))
	slices.Sort(names)
	return names
}

// validate tells all that is wrong with a configuration that has its defaults.
// It looks at nothing but the configuration: what the host lacks is a matter
// of health.
func (c Config) validate() error {
	var p problems
	absolute := func(path string, dirs []string) {
		for i, dir := range dirs {
			if !filepath.IsAbs(dir) {
				p.addf(indexed(path, i), "%q is no absolute path; begin it with /", dir)
			}
		}
	}
	absolute("image_paths", c.ImagePaths)
	absolute("user_data_paths", c.UserDataPaths)
	c.validateProvider(&p)
	c.validatePools(&p)
	if !slices.Contains([]string{accelerationAuto, accelerationKVM, accelerationTCG}, c.Acceleration) {
		p.addf("acceleration", "%q is none of auto, kvm, tcg", c.Acceleration)
	}
	if after, err := time.ParseDuration(c.RemoveOrphansAfter); err != nil || after < leastForOrphans {
		p.addf("remove_orphans_after", "%q is no duration of 1m at least; write it like 5m", c.RemoveOrphansAfter)
	}
	return p.err("the configuration of plugin " + pluginBlock)
}

func (c Config) validateProvider(p *problems) {
	l := c.Provider.Libvirt
	if _, err := hypervisor.New(l.URI); err != nil {
		p.addf("provider.libvirt.uri", "%s", err)
	}
	if (l.User == "") != (l.Password == "") {
		p.addf("provider.libvirt", "user and password go together, one of them is missing")
	}
}

func (c Config) validatePools(p *problems) {
	pools := c.StoragePools
	names := pools.names()
	for i, name := range names {
		if i > 0 && name == names[i-1] {
			p.addf("storage_pools", "the name %q is used twice, give each pool its own", name)
		}
	}
	switch {
	case len(names) == 0:
		p.addf("storage_pools", "there is no pool; add a block, directory %q { path = %q } for one", defaultPool, defaultPoolPath)
	case pools.Default == "" && len(names) > 1:
		p.addf("storage_pools.default", "is missing; with several pools, name the one that disks are in by default: %s",
			strings.Join(slices.Compact(names), ", "))
	case pools.Default != "" && !slices.Contains(names, pools.Default):
		p.addf("storage_pools.default", "there is no pool %q, there are: %s", pools.Default, strings.Join(slices.Compact(names), ", "))
	}
	if kept, err := time.ParseDuration(pools.KeepUnusedBases); err != nil || kept < 0 {
		p.addf("storage_pools.keep_unused_bases", "%q is no duration; write it like 24h, or 0s to keep none", pools.KeepUnusedBases)
	}
	for _, name := range slices.Sorted(maps.Keys(pools.Directory)) {
		path := labelled("storage_pools.directory", name)
		poolName(p, path, name)
		switch dir := pools.Directory[name].Path; {
		case dir == "":
			p.addf(path+".path", "is missing; name the directory, as in %s", defaultPoolPath)
		case !filepath.IsAbs(dir):
			p.addf(path+".path", "%q is no absolute path; begin it with /", dir)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pools.Ceph)) {
		pools.Ceph[name].validate(p, name)
	}
}

func (c CephPool) validate(p *problems, name string) {
	path := labelled("storage_pools.ceph", name)
	poolName(p, path, name)
	if c.Pool == "" {
		p.addf(path+".pool", "is missing; name a pool of the cluster, as ceph osd pool ls does")
	}
	if len(c.Hosts) == 0 {
		p.addf(path+".hosts", "is missing; list the monitors, as address:port")
	}
	for i, host := range c.Hosts {
		if _, err := monitor(host); err != nil {
			p.addf(indexed(path+".hosts", i), "%q is no monitor's address; write it as address:port, an IPv6 address in brackets", host)
		}
	}
	switch a := c.Authentication; {
	case a == nil || a.Username == "" || a.Secret == "":
		p.addf(path+".authentication", "needs a username and a secret: a client's name, and what ceph auth get-key prints of it")
	case !isCephKey(a.Secret):
		p.addf(path+".authentication.secret", "is no key of Ceph's; take what ceph auth get-key client.%s prints", clientName(a.Username))
	}
}

// monitorPort is where monitors answer clients since Ceph 14.
const monitorPort = "3300"

// monitor returns the address of a monitor as host:port, an IPv6 address in
// brackets.
func monitor(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil { // no port
		host, port = address, monitorPort
		if strings.HasPrefix(address, "[") && strings.HasSuffix(address, "]") {
			host = address[1 : len(address)-1]
		}
	}
	_, err = netip.ParseAddr(host)
	number, wrong := strconv.ParseUint(port, 10, 16)
	if err != nil && !hostName.MatchString(host) || wrong != nil || number == 0 {
		return "", errors.New("no host and port")
	}
	return net.JoinHostPort(host, port), nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

func isCephKey(secret string) bool {
	_, is := vm.CephKey(secret)
	return is
}

// clientName is a Ceph client's name as Ceph's tools take it: Ceph itself shows
// it as client.nomad, and so do people write it.
func clientName(username string) string { return strings.TrimPrefix(username, "client.") }

// rbd tells how to reach a Ceph pool that libvirt knows by a name.
func (c CephPool) rbd(name string) *vm.RBD {
	r := &vm.RBD{Pool: c.Pool, User: clientName(c.Authentication.Username), Secret: domxml.SecretUUID(name)}
	for _, host := range c.Hosts {
		if m, err := monitor(host); err == nil { // it was validated
			r.Monitors = append(r.Monitors, m)
		}
	}
	return r
}

func poolName(p *problems, path, name string) {
	if name == "" || strings.ContainsAny(name, "/\n") {
		p.addf(path, "%q cannot be the name of a libvirt storage pool; give it one without /", name)
	}
}

// accel decides how guests are executed, given what the host offers.
func (c Config) accel(offered vm.Accel) (vm.Accel, error) {
	switch {
	case c.Acceleration == accelerationTCG:
		return vm.TCG, nil
	case c.Acceleration == accelerationKVM && offered != vm.KVM:
		return offered, errors.New("kvm is asked for, and libvirt offers none on this host; see to /dev/kvm, or leave acceleration out")
	}
	return offered, nil
}
