//go:build lab

package hypervisor

import (
	"context"
	"net/netip"
	"testing"
)

// A start that fails gives up its reservation, at any moment of it.
func TestReservationThatWasGivenUpIsReleased(t *testing.T) {
	const mac = "52:54:00:77:01:01"
	h := connected(t, system)
	for range 5 {
		ctx, giveUp := context.WithCancel(t.Context())
		_, wait, err := h.Reserve(ctx, "default", mac, netip.Addr{})
		must(t, err)
		giveUp()
		_ = wait()
		must(t, h.Release(t.Context(), "default", mac))
		mustBeReserved(t, mac, false)
	}
}
