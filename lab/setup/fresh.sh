#!/bin/bash
# fresh.sh OUT: the root of a new Debian 12, with what the README asks for but Go,
# which is the machine's.
set -euo pipefail
here=$(dirname "$0")
# shellcheck source=apt.sh
. "$here/apt.sh"

mapfile -t sources < <(debian_sources)
rm -rf "$1"
mmdebstrap --mode=root --variant=minbase --format=directory --components=main \
	--include=git,make,ca-certificates bookworm "$1" "${sources[@]}"
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*
cp "${sources[@]}" "$1/etc/apt/sources.list.d/"

# Nobody is there to be asked. What is fetched is kept for the next time.
cat >"$1/etc/apt/apt.conf.d/99fresh" <<-'CONF'
	APT::Get::Assume-Yes "true";
	APT::Keep-Downloaded-Packages "true";
	Binary::apt::APT::Keep-Downloaded-Packages "true";
	APT::Sandbox::User "root";
	APT::Install-Recommends "false";
CONF
# It has no init that could start daemons.
printf '#!/bin/sh\nexit 101\n' >"$1/usr/sbin/policy-rc.d"
chmod +x "$1/usr/sbin/policy-rc.d"
