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
# shellcheck source=initramfs.sh
. "$here/initramfs.sh"
disk=$work/disk

# copy_lsblk: busybox has none. Its libraries are those of this machine.
copy_lsblk() {
	local library
	cp /bin/lsblk "$work/root/bin/"
	ldd /bin/lsblk | grep -o '/lib[^ ]*' | while read -r library; do
		install -D "$library" "$work/root$library"
	done
}

unpack_kernel amd64
mkdir -p "$disk"
cp -r "$here/tiny/boot" "$disk/boot"
cp /usr/lib/grub/i386-pc/{pci,setpci,test}.mod "$disk/boot/grub/"
cp "$work/kernel/boot/vmlinuz-$version" "$disk/boot/vmlinuz"
make_root amd64 "${modules[@]}"
copy_lsblk
pack_root "$disk/boot/initrd"
bootable_qcow2 "$work" "$disk" 48 "$1"
