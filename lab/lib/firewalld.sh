# shellcheck shell=bash
# firewalld, which takes the host's firewall over, on demand. It speaks by a D-Bus,
# which libvirtd looks for when it starts: it then puts its bridges into zones.

start_firewalld() {
	inside sh -c 'command -v firewalld' >/dev/null || die "no firewalld is in a lab of libvirt 9: take one of LIBVIRT=11"
	inside mkdir -p /run/dbus
	is_running dbus || start dbus dbus-daemon --system --nofork --nopidfile
	is_running firewalld || start firewalld firewalld --nofork --nopid
	until_true 30 firewalld_answers || die "firewalld does not answer: $LAB_LOGS/firewalld.log"
	stop_libvirt
	start_libvirt
}

firewalld_answers() { inside firewall-cmd --state; }

# stop_firewalld also takes its rules away. A libvirtd whose D-Bus goes ends.
stop_firewalld() {
	stop firewalld 20
	is_running dbus || return 0
	stop_libvirt
	stop dbus 5
	start_libvirt
}
