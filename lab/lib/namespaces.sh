# shellcheck shell=bash
# The lab is one network, mount and PID namespace, kept by its process 1, and a
# second network namespace that plays another host. All processes of the lab are
# in that PID namespace: to end process 1 ends them all, and nothing else.

LAB_FAR=$LAB_NAME-far
LAB_RUN=$LAB_STATE/$LAB_NAME     # gone with the lab; /run/lab inside
LAB_LOGS=$LAB_STATE/$LAB_NAME-logs # kept until the next lab of that name
NOMAD_ADDR=http://10.99.0.2:4646

is_inside() { [ "${LAB_INSIDE:-}" = "$LAB_NAME" ]; }

# holder: the PID, as the host sees it, of the lab's process 1.
holder() {
	local pid
	pid=$(cat "$LAB_RUN/holder.pid" 2>/dev/null) || return 1
	# After a reboot the number may be somebody else's.
	[ "$(readlink "/proc/$pid/ns/net")" = "net:[$(stat -Lc %i "/run/netns/$LAB_NAME" 2>/dev/null)]" ] || return 1
	echo "$pid"
}

# inside CMD...: run CMD in the lab.
inside() {
	local pid
	if is_inside; then
		"$@"
		return
	fi
	pid=$(holder) || die "lab $LAB_NAME is not up: run lab/lab up first"
	nsenter -t "$pid" -n -m -p --wdns="$PWD" -- env \
		LAB_INSIDE="$LAB_NAME" NOMAD_ADDR="$NOMAD_ADDR" \
		PATH="/run/lab/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin" "$@"
}

# far CMD...: run CMD in the lab, but on the other host's network.
far() { inside nsenter --net="/run/netns/$LAB_FAR" -- "$@"; }

# start NAME CMD...: start a daemon in the lab, with its output in the log NAME.log.
start() { inside setsid --fork "$LAB_DIR/lib/daemon.sh" run "$@" 8>&- 9>&-; }

start_far() { far setsid --fork "$LAB_DIR/lib/daemon.sh" run "$@" 8>&- 9>&-; }

is_running() { inside "$LAB_DIR/lib/daemon.sh" alive "$1"; }

is_stopped() { ! is_running "$1"; }

send() { inside "$LAB_DIR/lib/daemon.sh" kill "$1" "$2"; }

# stop NAME SECONDS: end a daemon, by force when the time is over.
stop() {
	send "$1" TERM
	until_true "$2" is_stopped "$1" && return
	say "$1 did not end in $2 s: killing it"
	send "$1" KILL
	until_true 5 is_stopped "$1"
}

make_networks() {
	ip netns add "$LAB_NAME"
	ip netns add "$LAB_FAR"
	# Nomad wants an interface with a default route.
	ip -n "$LAB_NAME" link set lo up
	ip -n "$LAB_NAME" link add uplink type veth peer name downlink netns "$LAB_FAR"
	ip -n "$LAB_NAME" addr add 10.99.0.2/24 dev uplink
	ip -n "$LAB_NAME" addr add fd99::2/64 dev uplink nodad
	ip -n "$LAB_NAME" link set uplink up
	ip -n "$LAB_FAR" link set lo up
	ip -n "$LAB_FAR" addr add 10.99.0.1/24 dev downlink
	ip -n "$LAB_FAR" addr add fd99::1/64 dev downlink nodad
	ip -n "$LAB_FAR" link set downlink up
	ip -n "$LAB_NAME" route add default via 10.99.0.1
}

# make_holder: process 1 of the lab, which sets up its mounts and then waits.
make_holder() {
	local outer root=()
	[ "$LIBVIRT" = 9 ] || mapfile -t root < <(other_root)
	nsenter --net="/run/netns/$LAB_NAME" setsid unshare --mount --pid --fork --propagation private \
		"${root[@]}" "$LAB_DIR/lib/holder.sh" "$LAB_RUN" "$LAB_LOGS" \
		"debian-12.qcow2=$(debian_piece)" "tiny.qcow2=$(tiny_piece)" "tiny-arm64.qcow2=$(tiny_arm64_piece)" \
		>"$LAB_LOGS/holder.log" 2>&1 </dev/null 8>&- 9>&- &
	outer=$!
	disown
	if ! until_true 10 test -e "$LAB_RUN/mounted"; then
		show_log "$LAB_LOGS/holder.log"
		die "the lab's mounts were not made"
	fi
	pgrep -P "$outer" >"$LAB_RUN/holder.pid"
}

# other_root: the words of a command that has another command run in the root of
# Debian 13, with this project and Go.
other_root() {
	printf '%s\n' "$LAB_DIR/lib/root.sh" "$(libvirt_11_piece)" "$LAB_RUN/root" \
		"$LAB_ROOT" "$LAB_CACHE" "$LAB_STATE" /tmp
	go env GOROOT GOMODCACHE GOCACHE
	dirname "$(go env GOENV)"
	echo --
}

# end_namespaces: end all processes of the lab, then its namespaces.
end_namespaces() {
	local name
	for name in "$LAB_NAME" "$LAB_FAR"; do
		[ -e "/run/netns/$name" ] || continue
		ip netns pids "$name" | xargs -r kill -KILL 2>/dev/null || true
		until_true 10 no_process_in "$name" || die "processes of $name do not end: $(ip netns pids "$name" | xargs)"
		ip netns del "$name"
	done
}

no_process_in() { [ -z "$(ip netns pids "$1")" ]; }

# remove_cgroups: what Nomad and libvirt made. With cgroups of version 1 their names
# are the same for all labs: the last one to go removes them.
remove_cgroups() {
	local names=(-name "$LAB_NAME.slice")
	other_lab_up || names+=(-o -name machine -o -name nomad)
	find /sys/fs/cgroup -mindepth 1 -maxdepth 2 \( "${names[@]}" \) -print0 2>/dev/null |
		xargs -0 -r -I{} find {} -depth -type d -exec rmdir {} \; 2>/dev/null || true
}

other_lab_up() {
	find "$LAB_STATE" -mindepth 2 -maxdepth 2 -name holder.pid ! -path "$LAB_RUN/*" | grep -q .
}
