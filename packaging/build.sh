#!/bin/bash
# build.sh NFPM BUILD VERSION: packages, release archives and their checksums in
# BUILD/packages, of the plugins in BUILD/linux-ARCH. The same commit makes the same
# bytes: all times are that of the commit.
set -euo pipefail
nfpm=$1 build=$2 version=$3
out=$build/packages

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH BUILD=$build VERSION=$version
umask 022 # what is in a package has the modes of the files here
rm -rf "$out"
mkdir -p "$out"

declare -A deb_qemu=([amd64]=qemu-system-x86 [arm64]="qemu-system-arm, qemu-efi-aarch64")

# archive ARCH: for those who take neither of the packages.
archive() {
	local name=nomad-driver-virt_${version}_linux_$1
	local tree=$out/$name
	mkdir "$tree"
	cp "$build/linux-$1/nomad-driver-virt" "$tree/"
	cp -r --parents LICENSE ./*.md docs examples lab/README.md cli/testdata/broken.nomad.hcl "$tree/"
	chmod -R u=rwX,go=rX "$tree"
	tar -C "$out" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
		-c "$name" | gzip -9n >"$tree.tar.gz"
	rm -r "$tree"
}

for arch in amd64 arm64; do
	for packager in deb rpm; do
		ARCH=$arch DEB_QEMU=${deb_qemu[$arch]} "$nfpm" package -f packaging/nfpm.yaml -p "$packager" -t "$out/"
	done
	archive "$arch"
done
cd "$out"
LC_ALL=C sha256sum -- * >SHA256SUMS
