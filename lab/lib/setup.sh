# shellcheck shell=bash
# The slow pieces, each made once and kept in the cache. A piece is named after
# the hash of its recipe, so that a changed recipe is a missing piece.

# The files of each recipe, relative to lab/.
nomad_recipe=(setup/nomad.sh)
debian_recipe=(setup/debian.sh setup/disk.sh setup/debian)
tiny_recipe=(setup/tiny.sh setup/initramfs.sh setup/disk.sh setup/tiny tinyguest)
tiny_arm64_recipe=(setup/tiny-arm64.sh setup/initramfs.sh setup/tiny-arm64 setup/tiny/root tinyguest)
libvirt_11_recipe=(setup/libvirt-11.sh)
fresh_recipe=(setup/fresh.sh)

nomad_piece() { piece nomad "${nomad_recipe[@]}"; }
debian_piece() { piece debian-12.qcow2 "${debian_recipe[@]}"; }
tiny_piece() { piece tiny.qcow2 "${tiny_recipe[@]}"; }
tiny_arm64_piece() { piece tiny-arm64.qcow2 "${tiny_arm64_recipe[@]}"; }
libvirt_11_piece() { piece libvirt-11 "${libvirt_11_recipe[@]}"; }
fresh_piece() { piece fresh "${fresh_recipe[@]}"; }

# pieces: what a lab is made of.
pieces() {
	nomad_piece
	debian_piece
	tiny_piece
	tiny_arm64_piece
	[ "$LIBVIRT" = 9 ] || libvirt_11_piece
}

# piece NAME FILE...: where the piece is kept that these files make.
piece() {
	local name=$1 hash
	shift
	hash=$(cd "$LAB_DIR" && find "$@" -type f ! -name '*_test.go' -print0 | LC_ALL=C sort -z |
		xargs -0 sha256sum | sha256sum | cut -c1-12)
	echo "$LAB_CACHE/$name-$hash"
}

setup() {
	mkdir -p "$LAB_CACHE/log"
	exec 8>"$LAB_CACHE/lock"
	if ! flock -n 8; then
		say "another setup is at work, waiting for it"
		flock 8
	fi
	install_packages
	rm -rf "$LAB_CACHE"/work.* # of a setup that was killed
	make_piece "Nomad, about 5 min" "$(nomad_piece)" setup/nomad.sh
	make_piece "tiny guest image, about 20 s" "$(tiny_piece)" setup/tiny.sh
	make_piece "tiny guest image for arm64, about 30 s" "$(tiny_arm64_piece)" setup/tiny-arm64.sh
	make_piece "Debian 12 guest image, about 2 min" "$(debian_piece)" setup/debian.sh
	make_piece "Debian 13 with libvirt 11, about 1 min" "$(libvirt_11_piece)" setup/libvirt-11.sh
	say "everything is in $LAB_CACHE"
	exec 8>&-
}

missing_packages() {
	LC_ALL=C comm -23 <(LC_ALL=C sort "$LAB_DIR/setup/packages.txt") \
		<(dpkg-query -W -f '${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p' | LC_ALL=C sort)
}

install_packages() {
	local missing
	mapfile -t missing < <(missing_packages)
	[ "${#missing[@]}" -gt 0 ] || return 0
	step "Debian packages, about 30 s: ${missing[*]}" "$LAB_CACHE/log/packages.log" \
		"$LAB_DIR/setup/packages.sh" "${missing[@]}"
}

# make_piece TITLE PIECE RECIPE: a piece is made under another name first, and has
# its own when it is whole.
make_piece() {
	local title=$1 piece=$2 recipe=$3 name
	[ ! -e "$piece" ] || return 0
	name=$(basename "${piece%-*}")
	step "$title" "$LAB_CACHE/log/$name.log" "$LAB_DIR/$recipe" "$piece.part"
	remove_unused "$LAB_CACHE/$name"-????????????
	mv "$piece.part" "$piece"
}

# remove_unused PIECE...: those that no lab has taken for a week. Another checkout may
# have other recipes.
remove_unused() {
	local old
	for old in "$@"; do
		if [ -z "$(find "$LAB_CACHE/used" -name "${old##*/}" -mtime -7 2>/dev/null)" ]; then
			rm -rf "$old" "$LAB_CACHE/used/${old##*/}"
		fi
	done
}

require_pieces() {
	local piece
	mkdir -p "$LAB_CACHE/used"
	for piece in $(pieces); do
		[ -e "$piece" ] || die "$piece is missing: run lab/lab setup first"
		touch "$LAB_CACHE/used/${piece##*/}"
	done
}
