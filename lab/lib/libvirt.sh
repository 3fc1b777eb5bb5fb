# shellcheck shell=bash
# libvirtd with its NAT network "default".

write_libvirt_config() {
	local etc=$LAB_RUN/etc-libvirt
	mkdir -p "$etc"
	# Debian's own, without what an administrator may have set: all its lines are
	# comments.
	sed '/^[^#]/d' /etc/libvirt/qemu.conf >"$etc/qemu-stock.conf"
	# QEMU runs as root and unconfined, as it does on a machine without AppArmor.
	cat >"$etc/qemu-root.conf" <<-'CONF'
		user = "root"
		group = "root"
		security_driver = "none"
		namespaces = []
		remember_owner = 0
		cgroup_controllers = [ "cpu", "cpuacct", "cpuset", "memory", "blkio" ]
	CONF
	# Small, so that a test sees consoles fill their files.
	cat >"$etc/virtlogd.conf" <<-'CONF'
		max_size = 262144
		max_backups = 3
	CONF
	cat >"$etc/libvirtd.conf" <<-'CONF'
		auth_unix_ro = "none"
		auth_unix_rw = "none"
		unix_sock_group = "root"
		log_filters = "3:*"
		log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
	CONF
	[ "$LIBVIRT" = 9 ] || choose_nftables
}

# choose_nftables: libvirt 9 has iptables alone, and Debian takes iptables with 11, too.
choose_nftables() {
	echo 'firewall_backend = "nftables"' >"$LAB_RUN/etc-libvirt/network.conf"
	mkdir -p "$LAB_RUN/bin"
	cp "$LAB_DIR/lib/tc.sh" "$LAB_RUN/bin/tc"
}

virsh_answers() { inside timeout 5 virsh -q version; }

# start_libvirt: QEMU says which of the two qemu.conf it starts with.
start_libvirt() {
	is_running virtlogd || start virtlogd /usr/sbin/virtlogd
	if ! is_running libvirtd; then
		inside cp "/etc/libvirt/qemu-${QEMU:-root}.conf" /etc/libvirt/qemu.conf
		start libvirtd /usr/sbin/libvirtd
	fi
	if ! until_true 20 virsh_answers; then
		show_log "$LAB_LOGS/libvirtd.log"
		show_log "$LAB_LOGS/libvirt/libvirtd.log"
		die "libvirtd does not answer"
	fi
}

define_network() {
	inside virsh -q net-define /usr/share/libvirt/networks/default.xml >/dev/null
	inside virsh -q net-autostart default >/dev/null
	inside virsh -q net-start default >/dev/null
}

# versions: which libvirt and QEMU it is, of which Debian.
versions() {
	inside virsh -q version | awk -v debian="$(inside cat /etc/debian_version)" '
		$2 == "library:" { library = $3 " " $4 }
		$2 == "hypervisor:" { hypervisor = $3 " " $4 }
		END { print library ", " hypervisor ", Debian " debian }'
}

# stop_libvirt leaves virtlogd: it holds the logs of running VMs.
stop_libvirt() { stop libvirtd 20; }
