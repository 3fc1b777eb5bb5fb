package driver

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	pstructs "github.com/hashicorp/nomad/plugins/shared/structs"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// fingerprintEvery is how often the host is looked at when libvirt neither came
// nor went; healEvery, when something is missing that may have come.
const (
	fingerprintEvery = 30 * time.Second
	healEvery        = 5 * time.Second
)

// Fingerprint reports what the host offers, whether the driver can use it, and
// why not if it cannot.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan *drivers.Fingerprint, error) {
	reports := make(chan *drivers.Fingerprint)
	go func() {
		defer close(reports)
		defer d.used()()
		config, machines := d.connected()
		var last map[string]*pstructs.Attribute
		for {
			changed := machines.host.Changed()
			report, seen := fingerprint(ctx, config, machines.host, machines.store, d.around.uid)
			last = attributesAfter(last, report.Attributes, seen)
			report.Attributes = last
			select {
			case reports <- report:
			case <-ctx.Done():
				return
			}
			again := fingerprintEvery
			if report.Health != drivers.HealthStateHealthy {
				again = healEvery
			}
			select {
			case <-changed:
			case <-time.After(again):
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}()
	return reports, nil
}

// fingerprint looks at the host once as the user of an ID, and tells whether it could.
// Where libvirt is away the node keeps the attributes that it has.
func fingerprint(ctx context.Context, config Config, host libvirtHost, store *storage.Store, uid int) (report *drivers.Fingerprint, seen bool) {
	report = &drivers.Fingerprint{
		Attributes:        map[string]*pstructs.Attribute{"driver.virt": pstructs.NewBoolAttribute(true)},
		Health:            drivers.HealthStateHealthy,
		HealthDescription: drivers.DriverHealthy,
	}
	o, err := offerOf(ctx, host)
	if seen = err == nil; seen {
		o.facts.Accel, err = config.accel(o.facts.Accel)
		report.Attributes = attributes(config, o)
	}
	if uid != 0 { // why libvirt may not let the plugin in, too
		err = fmt.Errorf("the plugin runs as user %d, as Nomad's client does, who may not give VMs networks, disks and directories: run the client as root", uid)
	}
	if err == nil && config.NWFilter != "" {
		err = host.HasNWFilter(ctx, config.NWFilter)
	}
	if err == nil {
		err = store.Ensure(ctx)
	}
	if err != nil {
		report.Health, report.HealthDescription = drivers.HealthStateUnhealthy, err.Error()
	}
	return report, seen
}

// offer is what the host has for guests.
type offer struct {
	libvirt, qemu hypervisor.Version
	facts         hypervisor.Facts // for guests of the host's own architecture
	guests        []hypervisor.GuestArch
}

func offerOf(ctx context.Context, host libvirtHost) (o offer, err error) {
	if o.libvirt, o.qemu, err = host.Versions(ctx); err != nil {
		return o, err
	}
	if o.guests, err = host.Guests(ctx); err != nil {
		return o, err
	}
	o.facts, err = host.Facts(ctx, "", "")
	return o, err
}

// attributes are those of the node. Job files have constraints on them, so their
// names and values stay; none of them changes by itself.
func attributes(config Config, o offer) map[string]*pstructs.Attribute {
	const provider = "driver.virt.provider.libvirt"
	values := map[string]string{
		"driver.virt.acceleration":            accelerationName(o.facts.Accel),
		"driver.virt.arch":                    o.facts.Arch,
		provider + ".version":                 strconv.FormatUint(uint64(o.libvirt), 10),
		provider + ".version.readable":        o.libvirt.String(),
		provider + ".driver":                  "QEMU",
		provider + ".driver.version":          strconv.FormatUint(uint64(o.qemu), 10),
		provider + ".driver.version.readable": o.qemu.String(),
	}
	for _, g := range o.guests {
		accel, err := config.accel(g.Accel)
		if err != nil {
			continue // a task that asks for it is refused
		}
		arch := "driver.virt.arch." + g.Arch
		values[arch] = accelerationName(accel)
		values[arch+".machines"] = strings.Join(g.Usual, ",")
	}
	for _, n := range o.facts.Networks {
		network := "driver.virt.network." + n.Name
		values[network+".state"] = "active"
		values[network+".bridge_name"] = n.Bridge
	}
	truths := []string{"driver.virt", provider}
	pools := config.StoragePools
	for _, name := range pools.names() {
		pool := "driver.virt.storage_pool." + name
		values[pool] = "directory"
		if _, inCeph := pools.Ceph[name]; inCeph {
			values[pool] = "ceph"
		}
		truths = append(truths, pool+".provider.libvirt")
		if name == pools.Default {
			truths = append(truths, pool+".default")
		}
	}
	all := make(map[string]*pstructs.Attribute)
	for name, value := range values {
		all[name] = pstructs.NewStringAttribute(value)
	}
	for _, name := range truths {
		all[name] = pstructs.NewBoolAttribute(true)
	}
	return all
}

// accelerationName is an acceleration by the name that the plugin's configuration
// has for it.
func accelerationName(a vm.Accel) string {
	if a == vm.TCG {
		return accelerationTCG
	}
	return accelerationKVM
}

// attributesAfter returns the attributes to report after those that were reported
// last: as they are now, and as "" those that were there before, since a node
// keeps what is not said to be gone. Where the host could not be seen they stay as
// they were: Nomad compares a report with the one before it alone, and would not
// take notice of what goes meanwhile.
func attributesAfter(last, now map[string]*pstructs.Attribute, seen bool) map[string]*pstructs.Attribute {
	if !seen && last != nil {
		return last
	}
	all := maps.Clone(now)
	for name := range last {
		if _, is := now[name]; !is {
			all[name] = pstructs.NewStringAttribute("")
		}
	}
	return all
}
