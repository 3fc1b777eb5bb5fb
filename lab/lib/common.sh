# shellcheck shell=bash
# What every part of the lab shares: where things are, and how progress is told.

LAB_NAME=${LAB_NAME:-lab}
LAB_CACHE=${VIRT_LAB_CACHE:-/var/cache/nomad-driver-virt}
LAB_STATE=${VIRT_LAB_STATE:-/var/lib/nomad-driver-virt-lab}
LIBVIRT=${LIBVIRT:-9} # that of Debian 12, this machine's, or of Debian 13: 11
export LAB_NAME LAB_CACHE LAB_STATE LIBVIRT

say() { printf 'lab: %s\n' "$*" >&2; }

die() {
	say "$@"
	exit 1
}

# show_log FILE: the end of a log, where a failure usually tells its cause.
show_log() {
	[ -s "$1" ] || return 0
	tail -n "${2:-20}" "$1" | sed 's/^/    | /' >&2
	say "the whole log: $1"
}

# until_true SECONDS CMD...: wait until CMD succeeds.
until_true() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# step TITLE LOG CMD...: run a slow command with its output in LOG, and show
# that it is alive: seconds counted on a terminal, a line every 15 s elsewhere.
step() {
	local title=$1 log=$2 start=$SECONDS pid status=0
	shift 2
	say "$title"
	# A session of its own: an interrupt ends the command with all its children.
	setsid "$@" >"$log" 2>&1 </dev/null &
	pid=$!
	trap 'kill -TERM -- "-$pid" 2>/dev/null; exit 130' INT TERM
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		show_alive $((SECONDS - start))
	done
	wait "$pid" || status=$?
	trap - INT TERM
	[ -t 2 ] && printf '\r\033[K' >&2
	if [ "$status" -ne 0 ]; then
		say "failed after $((SECONDS - start)) s"
		show_log "$log"
		return "$status"
	fi
	say "  done in $((SECONDS - start)) s"
}

show_alive() {
	if [ -t 2 ]; then
		printf '\r    %d s' "$1" >&2
	elif [ "$1" -gt 0 ] && [ $(($1 % 15)) -eq 0 ]; then
		say "  ... $1 s"
	fi
}
