# shellcheck shell=bash
# The parts of a tiny guest that are the same on each architecture: Debian's
# kernel, and an initramfs that holds busybox and lab/tinyguest as its init. They
# are made in the folders kernel and root below work; here is the folder of recipes.
: "${work:?}" "${here:?}"

# fetch ARCH PACKAGE...: packages of an architecture, in the folder at hand.
fetch() { foreign_apt "$1" download "${@:2}"; }

# unpack_kernel ARCH: the kernel that Debian's metapackage names at the moment.
unpack_kernel() {
	local arch=$1 package
	foreign_apt "$arch" update
	(
		cd "$work" || exit
		fetch "$arch" "linux-image-$arch"
		package=$(dpkg-deb -f "linux-image-${arch}"_*.deb Depends)
		fetch "$arch" "${package%% *}"
		dpkg-deb -x linux-image-[0-9]*.deb "$work/kernel"
	)
	version=$(ls "$work/kernel/lib/modules")
	depmod -b "$work/kernel" "$version"
}

# unpack_busybox ARCH
unpack_busybox() {
	(
		cd "$work" || exit
		fetch "$1" busybox-static
		dpkg-deb -x busybox-static_*.deb "$work/busybox"
	)
}

# copy_modules MODULE...: the modules flat in one folder, and the file
# /lib/modules/load that lists them in the order in which they can be loaded.
copy_modules() {
	local module file root=$work/root
	mkdir -p "$root/lib/modules"
	for module in "$@"; do
		modprobe -d "$work/kernel" -S "$version" --show-depends "$module"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
		cp "$file" "$root/lib/modules/"
		echo "/lib/modules/${file##*/}"
	done >"$root/lib/modules/load"
}

# make_root ARCH MODULE...: all that is in the initramfs.
make_root() {
	local arch=$1 applet root=$work/root
	shift
	mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,dev,proc,sys,run,tmp,root,mnt,var}
	cp -r "$here/tiny/root/." "$root/"
	unpack_busybox "$arch"
	cp "$work/busybox/bin/busybox" "$root/bin/"
	# The busybox of this machine is of the same version.
	busybox --list | while read -r applet; do
		[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
	done
	# Go's runtime wants open standard files before devtmpfs is mounted.
	mknod -m 600 "$root/dev/console" c 5 1
	mknod -m 666 "$root/dev/null" c 1 3
	(cd "$here/.." && CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags "-s -w" -o "$root/init" ./tinyguest)
	copy_modules "$@"
}

# pack_root OUT: the initramfs.
pack_root() { (cd "$work/root" && find . | cpio -o -H newc --quiet) | zstd -q -19 >"$1"; }
