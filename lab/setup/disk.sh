# shellcheck shell=bash

# bootable_qcow2 WORK TREE MIB OUT: a disk image with GRUB and one ext4 partition,
# labelled root, of MIB that holds TREE. No loop device and no mount is needed.
bootable_qcow2() {
	local work=$1 tree=$2 mib=$3 out=$4
	local core=$work/core.img raw=$work/disk.raw root=$work/root.ext4

	truncate -s "${mib}M" "$root"
	# metadata_csum_seed is a feature that GRUB 2.06 cannot read.
	mke2fs -q -t ext4 -L root -m 1 -J size=16 -O ^metadata_csum_seed -d "$tree" "$root"

	truncate -s "$((mib + 2))M" "$raw"
	printf 'label: dos\nstart=2048, type=83, bootable\n' | sfdisk -q "$raw"
	dd if="$root" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none

	# GRUB's first stage goes into the boot sector, the rest into the gap before
	# the partition: what grub-install does, but it wants a mounted disk.
	grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$core" \
		biosdisk part_msdos ext2 normal linux serial terminal configfile
	dd if=/usr/lib/grub/i386-pc/boot.img of="$raw" bs=440 count=1 conv=notrunc status=none
	dd if="$core" of="$raw" bs=512 seek=1 conv=notrunc status=none

	qemu-img convert -O qcow2 -c "$raw" "$out"
}
