package driver

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/nomad/plugins/drivers"

	"nomad-driver-virt/domxml"
	"nomad-driver-virt/hypervisor/hypervisortest"
)

// withChosenMAC is a task of an allocation of its own whose job says its hardware
// address.
func withChosenMAC(t *testing.T, alloc string) *drivers.TaskConfig {
	t.Helper()
	cfg := emptyTask(t)
	cfg.AllocID, cfg.ID = alloc, alloc+"/"+cfg.Name+"/"+alloc
	mustDo(t, cfg.EncodeConcreteDriverConfig(&TaskConfig{
		Disks:             []Disk{{Size: "1MiB"}},
		NetworkInterfaces: []NetworkInterface{{MAC: ownMAC, Bridge: &Bridge{Name: "virbr0"}}},
	}))
	return cfg
}

// DHCP would give both one address, and the end of one would take it from the other.
func TestHardwareAddressIsOfOneVM(t *testing.T) {
	c := newClient(t)
	p, first, second := c.plugin(t), withChosenMAC(t, "aaaaaaaa"), withChosenMAC(t, "bbbbbbbb")
	p.start(t, first)
	there := c.left(t)
	_, _, err := p.StartTask(second)
	if want := "config.network_interface[0].mac: " + ownMAC + " is VM " + vmOf(first) + "'s on this host"; err == nil ||
		!strings.Contains(err.Error(), want) {
		t.Errorf("the error is %v, want it to say %q", err, want)
	}
	if diff := cmp.Diff(there, c.left(t)); diff != "" {
		t.Errorf("what is on the host has changed (-before +after):\n%s", diff)
	}
	// Nomad and the plugin have died, and the task is started again under another ID.
	p.kill()
	p, again := c.plugin(t), first.Copy()
	again.ID = strings.Replace(first.ID, "/aaaaaaaa", "/cccccccc", 1)
	p.start(t, again)
	mustDo(t, p.DestroyTask(again.ID, true))
	p.start(t, second)
	mustDo(t, p.DestroyTask(second.ID, true))
	c.nothingLeft(t)
}

// Neither of two starts at the same moment finds a domain of the other's.
func TestHardwareAddressIsOfOneStart(t *testing.T) {
	d, _ := newDriver(t)
	host := hypervisortest.NewMemory()
	task := TaskConfig{NetworkInterfaces: []NetworkInterface{{MAC: strings.ToUpper(ownMAC)}, {MAC: "none"}, {}}}
	first, second := withChosenMAC(t, "aaaaaaaa"), withChosenMAC(t, "bbbbbbbb")
	begins := func(cfg *drivers.TaskConfig, beside ...*drivers.TaskConfig) (done func()) {
		t.Helper()
		var want []domxml.Interface
		for _, other := range beside {
			want = append(want, domxml.Interface{MAC: ownMAC, Domain: vmOf(other), Owner: owner(other)})
		}
		others, done, err := d.othersBeside(t.Context(), host, task, cfg)
		if diff := cmp.Diff(want, others, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s sees, %v (-want +got):\n%s", vmOf(cfg), err, diff)
		}
		return done
	}
	done := begins(first)
	begins(second, first)()
	done()
	begins(second)()
	host.Fail("Interfaces", errBroken)
	_, done, err := d.othersBeside(t.Context(), host, task, first)
	if done(); !errors.Is(err, errBroken) {
		t.Errorf("where domains cannot be listed the error is %v, want %v", err, errBroken)
	}
	if _, _, err := d.othersBeside(t.Context(), host, TaskConfig{NetworkInterfaces: []NetworkInterface{{}}}, first); err != nil {
		t.Errorf("of a job that chooses no hardware address domains are listed: %v", err)
	}
}

// A VM that goes in between takes what was reserved for it along: by a look at what is
// reserved before, and at the VMs after, that would be an administrator's.
func TestVMsAreLookedForBeforeWhatIsReserved(t *testing.T) {
	c := newClient(t)
	p, cfg := c.plugin(t), withChosenMAC(t, "aaaaaaaa")
	for _, method := range []string{"Interfaces", "Facts"} {
		c.host.Fail(method, errors.New("it is asked for "+method))
	}
	if _, _, err := p.StartTask(cfg); err == nil || !strings.Contains(err.Error(), "it is asked for Interfaces") {
		t.Errorf("the error is %v, want it to be that of what is asked first, Interfaces", err)
	}
}
