#!/bin/bash
# readme.sh STATE: run the README's commands, in the root that lab/fresh made, and
# look at what comes of them.
set -euo pipefail
STATE=$1
cd "$STATE/nomad-driver-virt"
# shellcheck source=follow.sh
. lab/lib/follow.sh

# on_disk FOLDER: it is on the machine's disk rather than in memory, as elsewhere.
on_disk() {
	mkdir -p "$STATE/disk$1" "$1"
	mount --bind "$STATE/disk$1" "$1"
}

# installed: what the plugin needs came with its package.
installed() {
	local program
	for program in libvirtd virtlogd qemu-system-x86_64 qemu-img prlimit nft iptables dnsmasq /usr/lib/qemu/virtiofsd; do
		command -v "$program" >/dev/null || die "$program did not come with the package"
	done
	nomad-driver-virt --version
}

# on_node: the steps that change a network, and those after them.
on_node() {
	nsenter --net=/run/netns/node \
		unshare --mount --pid --fork --kill-child --mount-proc --propagation private lab/lib/node.sh "$STATE" "$SECONDS"
}

# demo: the plugin that is installed serves the page there, too.
demo() {
	export PLUGIN_DIR=/opt/nomad/plugins QEMU=stock
	follow "Try it" | tee "$STATE/shown"
	grep -qx "hello from the allocation" "$STATE/shown" || die "there was no page"
	grep -q "path=$PLUGIN_DIR/nomad-driver-virt" "$VIRT_LAB_STATE/demo-logs/nomad.log" ||
		die "it was not the installed plugin that served the page"
}

cp "$STATE/resolv.conf" /etc/resolv.conf
mkdir -p "$VIRT_LAB_CACHE/debs/partial"
mount --bind "$VIRT_LAB_CACHE/debs" /var/cache/apt/archives
on_disk /var/lib/virt
on_disk /opt/nomad/data

follow Install 1 1
installed
on_node
demo
apt-get -q autoclean
say "that was the README"
