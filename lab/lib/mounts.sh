# shellcheck shell=bash
# The parts of the machine that a mount namespace sees otherwise. Each takes a FOLDER
# to prepare them in.

# own_sys FOLDER: a sysfs shows the network namespace of those who mount it; the
# cgroups are as they were.
own_sys() {
	mkdir -p "$1"
	mount --rbind /sys/fs/cgroup "$1"
	mount -t sysfs sysfs /sys
	mount --rbind "$1" /sys/fs/cgroup
}

# hide_kvm FOLDER: KVM may be there and yet unable to boot a guest. A /dev without it
# is the only thing that libvirt takes as an answer: with another file in its place
# libvirt probes QEMU again at each call.
hide_kvm() {
	local dev=$1 i
	mkdir -p "$dev"
	mount -t tmpfs -o mode=755 tmpfs "$dev"
	mkdir "$dev"/{pts,shm,.host}
	find /dev -mindepth 1 -maxdepth 1 ! -name kvm ! -name pts ! -name shm ! -name mqueue ! -name hugepages ! -name 'tap[0-9]*' \
		-exec cp -a {} "$dev/" \;
	mount --bind /dev "$dev/.host"
	for i in {0..255}; do # macvtap devices turn up in the host's, those of other labs too
		ln -s ".host/tap$i" "$dev/tap$i"
	done
	for i in {0..63}; do # the kernel adds loop devices to the host's
		[ -e "$dev/loop$i" ] || mknod -m 600 "$dev/loop$i" b 7 "$i"
	done
	mount --bind /dev/pts "$dev/pts"
	mount -t tmpfs tmpfs "$dev/shm"
	mount --rbind "$dev" /dev
}
