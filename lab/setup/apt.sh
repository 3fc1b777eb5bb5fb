# shellcheck shell=bash
# apt with Debian's own sources alone, and its lists in the lab's cache: the
# machine's other sources may be out of reach, and its lists stay as they are.

# debian_sources: the files that list Debian's own sources.
debian_sources() {
	local file
	for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
		[ ! -s "$file" ] || echo "$file"
	done
}

debian_apt() {
	local conf=$LAB_CACHE/apt file
	mkdir -p "$conf/lists/partial" "$conf/sources"
	for file in $(debian_sources); do
		cp "$file" "$conf/sources/debian.${file##*.}"
	done
	apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$conf/sources" \
		-o Dir::State::lists="$conf/lists" -o APT::Sandbox::User=root "$@"
}

# foreign_apt ARCH ...: the same for packages of another architecture, which are
# only fetched: what is installed here does not count.
foreign_apt() {
	local lists=$LAB_CACHE/apt/lists-$1 arch=$1
	shift
	mkdir -p "$lists/partial"
	debian_apt -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
		-o Dir::State::lists="$lists" -o Dir::State::status=/dev/null \
		-o Dir::Cache::pkgcache='' -o Dir::Cache::srcpkgcache='' "$@"
}
