#!/bin/bash
# debian.sh OUT: build the Debian 12 cloud guest out of Debian's packages. What it
# differs in from Debian's own cloud image saves time where the CPU is emulated.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=apt.sh
. "$here/apt.sh"
# shellcheck source=disk.sh
. "$here/disk.sh"

# The kernel is the full one: the cloud kernel has no 9p.
packages=(
	systemd-sysv udev dbus kmod initramfs-tools zstd linux-image-amd64
	cloud-init cloud-guest-utils python3 fdisk e2fsprogs
	qemu-guest-agent openssh-server sudo iproute2 netbase ca-certificates curl procps
)
unwanted=(
	# what people read
	'/usr/share/man/*' '/usr/share/doc/*' '/usr/share/locale/*' '/usr/share/info/*'
	# drivers of hardware that no virtual machine has
	'/lib/modules/*/kernel/sound/*'
	'/lib/modules/*/kernel/drivers/'{gpu,media,infiniband,isdn,staging,iio,hwmon,bluetooth,mmc,usb/serial}'/*'
	'/lib/modules/*/kernel/net/wireless/*'
	'/lib/modules/*/kernel/drivers/net/'{wireless,ethernet/mellanox,ethernet/qlogic,ethernet/chelsio}'/*'
	# udev in the initramfs: the modules that are listed for it are all it needs
	'/usr/share/initramfs-tools/'{hooks,scripts/init-top,scripts/init-bottom}/udev
)
# Units that do nothing for a guest that lives for minutes.
masked=(
	apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
	e2scrub_all.timer e2scrub_reap.service fstrim.timer
	getty@tty1.service cloud-init-hotplugd.socket
	systemd-pstore.service systemd-timesyncd.service systemd-binfmt.service
	systemd-pcrphase.service systemd-pcrphase-sysinit.service
	systemd-update-utmp.service systemd-update-utmp-runlevel.service
	sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
	modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service
	modprobe@efi_pstore.service modprobe@loop.service
)

work=$(mktemp -d "$LAB_CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# customize ROOT: what is left to do once all packages are configured.
customize() {
	local root=$1 unit
	for unit in "${masked[@]}"; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
	chroot "$root" systemctl enable systemd-networkd.service serial-getty@ttyS0.service
	# cloud-init checks documents against its schema with this. It only warns, and
	# to import it takes a quarter of the time in which cloud-init starts.
	rm -r "$root/usr/lib/python3/dist-packages/jsonschema"
	# Byte code is compiled here once rather than by each guest's first boot.
	chroot "$root" python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.11
	: >"$root/etc/machine-id"
	rm -rf "$root"/etc/ssh/ssh_host_* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
	find "$root/var/log" -type f -delete
}

mapfile -t sources < <(debian_sources)
mmdebstrap --mode=root --variant=minbase --format=directory --components=main \
	--aptopt='APT::Install-Recommends "false"' \
	"${unwanted[@]/#/--dpkgopt=path-exclude=}" \
	--include="$(IFS=, && echo "${packages[*]}")" \
	--setup-hook="cp -r '$here/debian/.' \"\$1\"" \
	bookworm "$work/tree" "${sources[@]}"
customize "$work/tree"
du -sm "$work/tree"
bootable_qcow2 "$work" "$work/tree" 1536 "$1"
