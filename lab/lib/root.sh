#!/bin/bash
# root.sh ROOT SCRATCH FOLDER... -- CMD...: become CMD in another root than the
# machine's, in a mount namespace of its own. ROOT stays as it is: what is written
# goes to memory, at SCRATCH. The FOLDERs are the machine's, at the same places.
set -euo pipefail
lower=$1 scratch=$2
shift 2

mkdir -p "$scratch"
mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch"/{upper,work,root}
root=$scratch/root
mount -t overlay -o "lowerdir=$lower,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$root"

mount -t proc proc "$root/proc"
for folder in /sys /dev /run; do
	mount --rbind "$folder" "$root$folder"
done
while [ "$1" != -- ]; do
	mkdir -p "$root$1"
	mount --bind "$1" "$root$1"
	shift
done
shift

# libvirtd looks its own name up before each start of a VM, which takes 10 s where
# the name servers are out of reach.
printf '127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n' "$(uname -n)" >"$root/etc/hosts"
: >"$root/etc/resolv.conf"

cd "$root"
pivot_root . . # the machine's root is now under this folder
umount -l .
cd /
exec "$@"
