package portmap

import "net/netip"

// Publishable tells whether ports can be published at an address of the host.
func Publishable(host netip.Addr) bool { return unicast(host) == nil }
