//go:build lab

package hypervisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor"
	"nomad-driver-virt/hypervisor/hypervisortest"
	"nomad-driver-virt/vm"
)

// libvirtd is the socket of the lab's.
const libvirtd = "/run/libvirt/libvirt-sock"

// host returns the libvirt at a URI, connected.
func host(t *testing.T, uri string) *hypervisor.Host {
	t.Helper()
	h, err := hypervisor.New(uri)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.Run(t.Context())
	}()
	t.Cleanup(func() { <-ended })
	if err := h.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// otherHand is a connection to libvirt beside that of a Host.
type otherHand struct{ *libvirt.Libvirt }

func newOtherHand(t *testing.T, uri libvirt.ConnectURI) otherHand {
	t.Helper()
	c := libvirt.NewWithDialer(dialers.NewLocal())
	if err := c.ConnectToURI(uri); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect() })
	return otherHand{c}
}

func (o otherHand) kill(name string) error {
	d, err := o.DomainLookupByName(name)
	if err != nil {
		return err
	}
	return o.DomainDestroy(d)
}

func (o otherHand) edit(name, metadata string) error {
	d, err := o.DomainLookupByName(name)
	if err != nil {
		return err
	}
	return o.DomainSetMetadata(d, int32(libvirt.DomainMetadataElement), libvirt.OptString{metadata}, libvirt.OptString{"edited"},
		libvirt.OptString{domxml.MetadataURI}, libvirt.DomainAffectConfig)
}

func (o otherHand) shutdown(name string) error {
	d, err := o.DomainLookupByName(name)
	if err != nil {
		return err
	}
	return o.DomainShutdown(d)
}

func (o otherHand) forget(pool string) error {
	p, err := o.StoragePoolLookupByName(pool)
	if err != nil {
		return err
	}
	return errors.Join(o.StoragePoolDestroy(p), o.StoragePoolUndefine(p))
}

func (o otherHand) lists(v vm.Volume) bool {
	p, err := o.StoragePoolLookupByName(v.Pool)
	if err == nil {
		_, err = o.StorageVolLookupByName(p, v.Name)
	}
	return err == nil
}

// libvirt's driver for tests has guests that listen at once, and keeps volumes in
// mind rather than as files. A Host can ask it for no address: it has no leases,
// and no difference between a network's running and its stored definition.
func TestLibvirtWithoutQEMUIsAHypervisor(t *testing.T) {
	relay := hypervisortest.NewRelay(t, libvirtd)
	other := newOtherHand(t, libvirt.TestDefault)
	hypervisortest.TestHypervisor(t, hypervisortest.Subject{
		Hypervisor: host(t, relay.URI()),
		Accel:      "test",
		Arch:       "i686",
		Kill:       other.kill,
		Edit:       other.edit,
		PowerOff:   other.shutdown,
		HasVolume:  other.lists,
		Forget:     other.forget,
	})
}

func TestStatsOfAllVMsAreOneCall(t *testing.T) {
	relay := hypervisortest.NewRelay(t, libvirtd)
	h := host(t, relay.URI())
	for i := range 20 {
		spec := &vm.Spec{
			Name: fmt.Sprintf("hyp-stats-%d", i), Accel: "test", Arch: "i686", CPUModel: vm.CPUMaximum, VCPUs: 1, Memory: 64 * vm.MiB,
			SeedVolume: vm.Volume{Pool: "default-pool", Name: "seed.img", Path: "/default-pool/seed.img", Format: "raw"},
		}
		if err := errors.Join(h.Define(t.Context(), spec), h.Start(t.Context(), spec.Name)); err != nil {
			t.Fatal(err)
		}
	}
	before := relay.Calls()
	stats, err := h.Stats(t.Context())
	if calls := relay.Calls() - before; err != nil || len(stats) < 20 || calls > 2 { // one may be a ping
		t.Errorf("the statistics of %d VMs take %d calls, %v, want one for all 20", len(stats), calls, err)
	}
}

// QEMU's guests are firmware here that finds nothing to boot, and hears nothing.
func TestLibvirtWithQEMUIsAHypervisor(t *testing.T) {
	other := newOtherHand(t, libvirt.QEMUSystem)
	hypervisortest.TestHypervisor(t, hypervisortest.Subject{
		Hypervisor: host(t, "qemu:///system"),
		Accel:      vm.TCG,
		Arch:       "x86_64",
		Kill:       other.kill,
		Edit:       other.edit,
		HasVolume: func(v vm.Volume) bool {
			_, err := os.Stat(v.Path)
			return err == nil
		},
		Forget:  other.forget,
		Network: "default",
	})
}

// libvirt reads nothing more from a connection with five requests that it has not
// answered, and an agent may take a minute for its answer, or never give one.
func TestAgentsThatAreSilentHoldUpNothing(t *testing.T) {
	relay := hypervisortest.NewRelay(t, libvirtd)
	relay.MuteAgents()
	h := host(t, relay.URI())
	var names []string
	for i := range hypervisor.MostAgents + 1 {
		spec := &vm.Spec{
			Name: fmt.Sprintf("hyp-mute-%d", i), Accel: "test", Arch: "i686", CPUModel: vm.CPUMaximum, VCPUs: 1, Memory: 64 * vm.MiB,
			SeedVolume: vm.Volume{Pool: "default-pool", Name: "seed.img", Path: "/default-pool/seed.img", Format: "raw"},
		}
		if err := errors.Join(h.Define(t.Context(), spec), h.Start(t.Context(), spec.Name), h.Resume(t.Context(), spec.Name)); err != nil {
			t.Fatal(err)
		}
		names = append(names, spec.Name)
	}
	asking, done := context.WithCancel(t.Context())
	answers := make(chan error)
	for _, name := range names {
		go func() { answers <- h.AskAgent(asking, name) }()
	}
	if err := <-answers; !errors.Is(err, hypervisor.ErrAgentsBusy) {
		t.Errorf("one more than %d agents is asked: %v", hypervisor.MostAgents, err)
	}
	began := time.Now()
	for _, name := range names {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if err := h.Destroy(ctx, name); err != nil {
			t.Errorf("%v, after %s", err, time.Since(began))
		}
		cancel()
	}
	done()
	for range hypervisor.MostAgents {
		if err := <-answers; !errors.Is(err, context.Canceled) {
			t.Errorf("an agent has answered: %v", err)
		}
	}
}

// libvirt writes zeros for minutes where it has to allocate a volume on a file system
// that cannot do so by itself.
func TestVolumesThatTakeLongHoldUpNothing(t *testing.T) {
	relay := hypervisortest.NewRelay(t, libvirtd)
	relay.StallVolumes()
	h := host(t, relay.URI())
	changed := h.Changed()
	making, giveUp := context.WithCancel(t.Context())
	made := make(chan error)
	const all, atOnce = 6, 4
	for i := range all {
		v := vm.Volume{Pool: "default-pool", Name: fmt.Sprintf("stalled-%d.img", i), Format: "raw", Size: vm.GiB}
		go func() { made <- h.CreateVolume(making, v, nil) }()
	}
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	// libvirt is taken for one that hangs when a ping has had no answer for 10 s.
	for began := time.Now(); time.Since(began) < 22*time.Second; <-look.C {
		if relay.Unheard() < atOnce {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := h.VMs(ctx)
		cancel()
		if err != nil {
			t.Errorf("while volumes are made nothing else is answered, %s after that began: %v", time.Since(began), err)
			break
		}
	}
	select {
	case <-changed:
		t.Errorf("the connection was cut: %v", h.Health(t.Context()))
	default:
	}
	if got := relay.Unheard(); got != atOnce {
		t.Errorf("libvirt makes %d volumes at once that take long, want %d", got, atOnce)
	}
	giveUp()
	for range all {
		if err := <-made; !errors.Is(err, context.Canceled) {
			t.Errorf("a volume was made: %v", err)
		}
	}
}
