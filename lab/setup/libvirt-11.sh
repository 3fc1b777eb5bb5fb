#!/bin/bash
# libvirt-11.sh OUT: the root of a Debian 13 with libvirt 11 and QEMU 10, in which
# all of a lab runs. It has what the tests call, and a C compiler for "go test -race".
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=apt.sh
. "$here/apt.sh"

packages=(
	libvirt-daemon-system libvirt-clients
	libvirt-daemon-driver-qemu libvirt-daemon-driver-storage-rbd
	qemu-system-x86 qemu-system-arm qemu-efi-aarch64 seabios ipxe-qemu
	qemu-utils qemu-block-extra virtiofsd
	dnsmasq-base iproute2 iptables nftables conntrack
	ceph-common ceph-mon ceph-osd
	busybox-static curl dbus-daemon e2fsprogs fdisk file gcc jq libc6-dev
	firewalld libsasl2-modules procps sasl2-bin xfsprogs
)
unwanted=('/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/info/*')

work=$(mktemp -d "$LAB_CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The same archives as this machine's.
mapfile -t sources < <(debian_sources)
for i in "${!sources[@]}"; do
	sed 's/bookworm/trixie/g' "${sources[i]}" >"$work/debian.${sources[i]##*.}"
	sources[i]=$work/debian.${sources[i]##*.}
done
rm -rf "$1"
mmdebstrap --mode=root --variant=minbase --format=directory --components=main \
	--aptopt='APT::Install-Recommends "false"' \
	"${unwanted[@]/#/--dpkgopt=path-exclude=}" \
	--include="$(IFS=, && echo "${packages[*]}")" \
	trixie "$1" "${sources[@]}"
