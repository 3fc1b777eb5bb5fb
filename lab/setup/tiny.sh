#!/bin/bash
# tiny.sh OUT: build the tiny guest: Debian's kernel and an initramfs that holds
# busybox and lab/tinyguest as its init.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=apt.sh
. "$here/apt.sh"
# shellcheck source=disk.sh
. "$here/disk.sh"

modules=(
	virtio_pci virtio_blk virtio_net virtio_scsi virtio_console virtio_rng
	ata_piix ahci sym53c8xx xhci_pci uas usb_storage sd_mod sr_mod isofs ext4
	9p 9pnet_virtio virtiofs
	evdev button e1000 virtio_balloon pvpanic-mmio
)

work=$(mktemp -d "$LAB_CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
kernel=$work/kernel root=$work/root disk=$work/disk

# unpack_kernel: the kernel that Debian's metapackage names at the moment.
unpack_kernel() {
	debian_apt update
	(
		cd "$work"
		debian_apt download linux-image-amd64
		package=$(dpkg-deb -f linux-image-amd64_*.deb Depends)
		debian_apt download "${package%% *}"
		dpkg-deb -x linux-image-[0-9]*.deb "$kernel"
	)
	version=$(ls "$kernel/lib/modules")
	depmod -b "$kernel" "$version"
}

# copy_modules: the modules flat in one folder, and the file /lib/modules/load that
# lists them in the order in which they can be loaded.
copy_modules() {
	local module file
	mkdir -p "$root/lib/modules"
	for module in "${modules[@]}"; do
		modprobe -d "$kernel" -S "$version" --show-depends "$module"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$root/lib/modules/"
		echo "/lib/modules/${file##*/}"
	done >"$root/lib/modules/load"
}

# copy_lsblk: busybox has none. Its libraries are those of this machine.
copy_lsblk() {
	local library
	cp /bin/lsblk "$root/bin/"
	ldd /bin/lsblk | grep -o '/lib[^ ]*' | while read -r library; do
		install -D "$library" "$root$library"
	done
}

make_initramfs() {
	local applet
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,run,tmp,root,mnt,var}
	cp -r "$here/tiny/root/." "$root/"
	cp /bin/busybox "$root/bin/"
	busybox --list | while read -r applet; do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	# Go's runtime wants open standard files before devtmpfs is mounted.
	mknod -m 600 "$root/dev/console" c 5 1
	mknod -m 666 "$root/dev/null" c 1 3
	(cd "$here/.." && CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build -trimpath -ldflags "-s -w" -o "$root/init" ./tinyguest)
	copy_lsblk
	copy_modules
	(cd "$root" && find . | cpio -o -H newc --quiet) | zstd -q -19 >"$disk/boot/initrd"
}

unpack_kernel
mkdir -p "$disk"
cp -r "$here/tiny/boot" "$disk/boot"
cp /usr/lib/grub/i386-pc/{pci,setpci,test}.mod "$disk/boot/grub/"
cp "$kernel/boot/vmlinuz-$version" "$disk/boot/vmlinuz"
make_initramfs
bootable_qcow2 "$work" "$disk" 48 "$1"
