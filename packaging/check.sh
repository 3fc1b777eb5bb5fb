#!/bin/bash
# check.sh NFPM BUILD VERSION: whether what build.sh made of VERSION is what a
# release has to be.
set -euo pipefail
nfpm=$1 build=$2 version=$3
deb_version=${version/-/\~}-1
epoch=1 # no file has it in its name

again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
failed=0

fail() {
	echo "packages: $*" >&2
	failed=1
}

# The plugin's folder is on nobody's path.
link='/usr/bin/nomad-driver-virt -> /opt/nomad/plugins/nomad-driver-virt$'

# has WHAT PATTERN: the pattern is in a line of the input.
has() { grep -Eq -- "$2" || fail "$1 has no line like $2"; }

# Other times of the files and another umask make the same bytes.
cp -r "$build"/linux-* "$again/"
(umask 077 && packaging/build.sh "$nfpm" "$again" "$version" >/dev/null)
diff -r "$build/packages" "$again/packages" || fail "a second build differs"

(cd "$build/packages" && sha256sum --check --quiet --strict SHA256SUMS) || fail "the checksums are wrong"
[ "$(wc -l <"$build/packages/SHA256SUMS")" = 6 ] || fail "not all files have a checksum"

# check_links PACKAGE FOLDER: the pages in the folder link to what is there, too.
check_links() {
	local page link
	while IFS=: read -r page link; do
		[[ $link == *://* ]] || [ -e "$(dirname "$page")/$link" ] || fail "$1 lacks $link, to which ${page#"$2"/} leads"
	done < <(grep -roH --include='*.md' -E '\]\([^)# ]+' "$2" | sed 's/:\](/:/')
	[ -s "$2/README.md" ] || fail "$1 has no README.md"
}

check_deb() {
	local deb=$build/packages/nomad-driver-virt_${deb_version}_$1.deb
	dpkg-deb -f "$deb" Version Architecture Depends >"$again/fields"
	has "$deb" "^Version: $epoch:$deb_version\$" <"$again/fields"
	has "$deb" "^Architecture: $1\$" <"$again/fields"
	for package in libvirt-daemon-system "$2" virtiofsd qemu-utils dnsmasq-base nftables iptables; do
		has "$deb" "^Depends:.* $package(,| |\$)" <"$again/fields"
	done
	dpkg-deb -c "$deb" >"$again/files"
	has "$deb" "^-rwxr-xr-x root/root .* \./opt/nomad/plugins/nomad-driver-virt\$" <"$again/files"
	has "$deb" "^l.* root/root .* \.$link" <"$again/files"
	for file in README.md CHANGELOG.md copyright docs/install.md docs/task-configuration.md examples/virt.hcl examples/python.nomad.hcl; do
		has "$deb" "^-rw-r--r-- root/root .* \./usr/share/doc/nomad-driver-virt/$file\$" <"$again/files"
	done
	# Directories are everybody's.
	! grep -v -e '^d' -e ' \./opt/nomad/' -e ' \./usr/share/doc/' -e " \.$link" "$again/files" ||
		fail "$deb puts files elsewhere"
	dpkg-deb -x "$deb" "$again/deb-$1"
	check_links "$deb" "$again/deb-$1/usr/share/doc/nomad-driver-virt"
}

check_rpm() {
	local rpm=$build/packages/nomad-driver-virt-$deb_version.$1.rpm
	rpm -K --nosignature "$rpm" >/dev/null || fail "$rpm is damaged"
	rpm -qp --qf '%{EPOCH}:%{VERSION}-%{RELEASE} %{ARCH}\n' "$rpm" >"$again/version"
	rpm -qp --requires "$rpm" >"$again/requires"
	rpm -qp --suggests "$rpm" >"$again/suggests"
	rpm -qplv "$rpm" >"$again/files"
	has "$rpm" "^$epoch:$deb_version $1\$" <"$again/version"
	for package in libvirt-daemon-kvm virtiofsd qemu-img nftables iptables; do
		has "$rpm" "^$package\$" <"$again/requires"
	done
	has "$rpm" "^ceph-common\$" <"$again/suggests"
	has "$rpm" "^-rwxr-xr-x .* /opt/nomad/plugins/nomad-driver-virt\$" <"$again/files"
	has "$rpm" "^l.* $link" <"$again/files"
}

check_archive() {
	local name=nomad-driver-virt_${version}_linux_$1
	tar -xzf "$build/packages/$name.tar.gz" -C "$again"
	cmp "$again/$name/nomad-driver-virt" "$build/linux-$1/nomad-driver-virt" || fail "$name has another plugin"
	check_links "$name" "$again/$name"
}

for arch in amd64:x86_64:qemu-system-x86 arm64:aarch64:qemu-system-arm; do
	IFS=: read -r go rpm qemu <<<"$arch"
	check_deb "$go" "$qemu"
	check_rpm "$rpm"
	check_archive "$go"
done
exit $failed
