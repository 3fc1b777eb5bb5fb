#!/bin/bash
# tiny-arm64.sh OUT: build the tiny guest for ARM's machine type virt, which boots
# by UEFI: an EFI system partition with systemd-boot, Debian's kernel and the same
# initramfs, in ARM's instructions. Nothing of that is executed here.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=apt.sh
. "$here/apt.sh"

modules=(
	virtio_pci virtio_blk virtio_net virtio_scsi virtio_console virtio_rng
	xhci_pci uas usb_storage sd_mod sr_mod isofs ext4
	9p 9pnet_virtio virtiofs
	evdev button
)

work=$(mktemp -d "$LAB_CACHE/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# shellcheck source=initramfs.sh
. "$here/initramfs.sh"
raw=$work/disk.raw
mib=64 # of the partition

unpack_boot_loader() {
	(
		cd "$work"
		fetch arm64 systemd-boot-efi
		dpkg-deb -x systemd-boot-efi_*.deb "$work/boot"
	)
}

# make_disk: no loop device and no mount is needed.
make_disk() {
	local esp=$raw@@1M
	truncate -s "$((mib + 2))M" "$raw"
	printf 'label: dos\nstart=2048, size=%dMiB, type=ef\n' "$mib" | sfdisk -q "$raw"
	mformat -i "$esp" -T "$((mib * 2048))" -h 64 -s 32 -v BOOT ::
	mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
	# Where firmware looks on a disk that it does not know.
	mcopy -i "$esp" "$work/boot/usr/lib/systemd/boot/efi/systemd-bootaa64.efi" ::/EFI/BOOT/BOOTAA64.EFI
	mcopy -i "$esp" "$here/tiny-arm64/tiny.conf" ::/loader/entries/
	mcopy -i "$esp" "$work/kernel/boot/vmlinuz-$version" ::/vmlinuz
	mcopy -i "$esp" "$work/initrd" ::/initrd
}

unpack_kernel arm64
unpack_boot_loader
make_root arm64 "${modules[@]}"
pack_root "$work/initrd"
make_disk
qemu-img convert -O qcow2 -c "$raw" "$1"
