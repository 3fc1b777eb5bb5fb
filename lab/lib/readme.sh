#!/bin/bash
# readme.sh STATE: run the README's commands, in the root that lab/fresh made, and
# look at what comes of them.
set -euo pipefail
state=$1
cd "$state/nomad-driver-virt"

say() { printf 'fresh: %s, after %d s\n' "$*" "$SECONDS"; }

die() {
	say "$@" >&2
	exit 1
}

# commands SECTION: the lines of a section's blocks of shell.
commands() {
	awk -v section="## $1" '
		/^## / { wanted = $0 == section }
		$1 == "```" { shell = 0 }
		wanted && shell { print substr($0, indent) }
		wanted && $1 == "```sh" { shell = 1; indent = index($0, "`") }
	' README.md
}

# follow SECTION: run them, as if they were typed.
follow() {
	commands "$1" >"$state/commands"
	[ -s "$state/commands" ] || die "the README's section $1 has no commands"
	say "the README's section \"$1\""
	bash -ex "$state/commands"
}

# installed: what the plugin needs came with its package.
installed() {
	local program
	for program in libvirtd virtlogd qemu-system-x86_64 qemu-img prlimit nft iptables dnsmasq /usr/lib/qemu/virtiofsd; do
		command -v "$program" >/dev/null || die "$program did not come with the package"
	done
	/opt/nomad/plugins/nomad-driver-virt --version
}

# configured: the example goes with a client's configuration.
configured() {
	local nomad=("$VIRT_LAB_CACHE"/nomad-????????????)
	echo 'data_dir = "/opt/nomad/data"' >/etc/nomad.d/nomad.hcl
	"${nomad[0]}" config validate /etc/nomad.d
}

cp "$state/resolv.conf" /etc/resolv.conf
mkdir -p "$VIRT_LAB_CACHE/debs/partial"
mount --bind "$VIRT_LAB_CACHE/debs" /var/cache/apt/archives

follow Install
installed
export PLUGIN_DIR=/opt/nomad/plugins QEMU=stock
follow "Try it" | tee "$state/shown"
grep -qx "hello from the allocation" "$state/shown" || die "there was no page"
grep -q "path=$PLUGIN_DIR/nomad-driver-virt" "$VIRT_LAB_STATE/demo-logs/nomad.log" ||
	die "it was not the installed plugin that served the page"
configured
apt-get -q autoclean
say "that was the README"
