#!/bin/bash
# packages.sh PACKAGE...: install Debian packages. Their daemons are not started:
# the lab starts its own, in its namespaces.
set -euo pipefail
# shellcheck source=apt.sh
. "$(dirname "$0")/apt.sh"

policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
	trap 'rm -f $policy' EXIT
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod +x $policy
fi
export DEBIAN_FRONTEND=noninteractive
debian_apt update
debian_apt install -y --no-install-recommends "$@"
