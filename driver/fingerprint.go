package driver

import (
	"context"
	"time"

	"github.com/hashicorp/nomad/plugins/drivers"
	pstructs "github.com/hashicorp/nomad/plugins/shared/structs"

	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/storage"
	"nomad-driver-virt/vm"
)

// fingerprintEvery is how often the host is looked at when libvirt neither came
// nor went.
const fingerprintEvery = 30 * time.Second

// Fingerprint reports what the host offers, whether the driver can use it, and
// why not if it cannot.
func (d *Driver) Fingerprint(ctx context.Context) (<-chan *drivers.Fingerprint, error) {
	reports := make(chan *drivers.Fingerprint)
	go func() {
		defer close(reports)
		config, machines := d.connected()
		for {
			changed := machines.host.Changed()
			select {
			case reports <- fingerprint(ctx, config, machines.host, machines.store):
			case <-ctx.Done():
				return
			}
			select {
			case <-changed:
			case <-time.After(fingerprintEvery):
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}()
	return reports, nil
}

// fingerprint looks at the host once. Job files have constraints on the
// attributes, so their names and values stay; none of them changes by itself.
func fingerprint(ctx context.Context, config Config, host *hypervisor.Host, store *storage.Store) *drivers.Fingerprint {
	attributes, err := describe(ctx, config, host)
	if err == nil {
		err = store.Ensure(ctx)
	}
	if err != nil {
		return &drivers.Fingerprint{
			Attributes:        attributes,
			Health:            drivers.HealthStateUnhealthy,
			HealthDescription: err.Error(),
		}
	}
	return &drivers.Fingerprint{
		Attributes:        attributes,
		Health:            drivers.HealthStateHealthy,
		HealthDescription: drivers.DriverHealthy,
	}
}

func describe(ctx context.Context, config Config, host *hypervisor.Host) (map[string]*pstructs.Attribute, error) {
	attributes := map[string]*pstructs.Attribute{"driver.virt": pstructs.NewBoolAttribute(true)}
	libvirtVersion, qemuVersion, err := host.Version(ctx)
	if err != nil {
		return attributes, err
	}
	facts, err := host.Facts(ctx, "", "")
	if err != nil {
		return attributes, err
	}
	accel, err := config.accel(facts.Accel)
	if err != nil {
		return attributes, err
	}
	acceleration := accelerationKVM
	if accel == vm.TCG {
		acceleration = accelerationTCG
	}
	for name, value := range map[string]string{
		"driver.virt.acceleration":                             acceleration,
		"driver.virt.arch":                                     facts.Arch,
		"driver.virt.provider.libvirt.driver":                  "QEMU",
		"driver.virt.provider.libvirt.driver.version.readable": qemuVersion,
		"driver.virt.provider.libvirt.version.readable":        libvirtVersion,
	} {
		attributes[name] = pstructs.NewStringAttribute(value)
	}
	attributes["driver.virt.provider.libvirt"] = pstructs.NewBoolAttribute(true)
	return attributes, nil
}
