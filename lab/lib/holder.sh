#!/bin/bash
# holder.sh STATE LOGS NAME=IMAGE...: process 1 of a lab. In its own mount namespace
# it puts the lab's folders where the daemons look for them, and then waits, while
# bash collects the orphans of the lab.
set -euo pipefail
state=$1 logs=$2
shift 2
# shellcheck source=mounts.sh
. "$(dirname "$0")/mounts.sh"

# over SOURCE TARGET: show a folder of the lab in place of one of the host.
over() {
	mkdir -p "$1" "$2"
	mount --bind "$1" "$2"
}

mount -t proc proc /proc

own_sys "$state/cgroup"
[ -n "${KVM:-}" ] || hide_kvm "$state/dev"

for image in "$@"; do
	file=$state/virt/images/${image%%=*}
	mkdir -p "${file%/*}"
	touch "$file"
	mount --bind "${image#*=}" "$file"
	mount -o remount,bind,ro "$file"
done

over "$state/etc-libvirt" /etc/libvirt
over "$state/etc-ceph" /etc/ceph
over "$state/lib-libvirt" /var/lib/libvirt
over "$state/cache-libvirt" /var/cache/libvirt
over "$logs/libvirt" /var/log/libvirt
# A small file system, to see what comes of a full one.
mkdir -p "$state/virt/small" /var/lib/virt
mount -t tmpfs -o size=256m,mode=755 tmpfs "$state/virt/small"
mount --rbind "$state/virt" /var/lib/virt

# Last: what is under the host's /run cannot be reached afterwards.
mkdir -p "$state/run"
mount -t tmpfs -o mode=755 tmpfs "$state/run"
mkdir -p "$state/run"/{netns,lab,lock}
mount --rbind /run/netns "$state/run/netns"
mount --rbind "$state" "$state/run/lab"
mkdir -p "$state/logs"
mount --bind "$logs" "$state/run/lab/logs"
mount --rbind "$state/run" /run

: >"$state/mounted"
sleep infinity &
wait
