# shellcheck shell=bash
# The commands of README.md, or of another PAGE, to be run as they stand. STATE is a
# folder for scripts.

say() { printf 'fresh: %s, after %d s\n' "$*" "$SECONDS"; }

die() {
	say "$@" >&2
	exit 1
}

# commands SECTION [FIRST LAST]: the lines of a section's blocks of shell, and those of
# its transcripts that somebody has typed; of a list, its steps from FIRST to LAST.
commands() {
	awk -v section="$1" -v first="${2:-0}" -v last="${3:-99}" '
		block == "" && sub(/^##+ /, "") { wanted = $0 == section; step = 0 }
		/^[0-9]+\. / { step = $1 + 0 }
		$1 == "```" { block = "" }
		block != "" {
			line = substr($0, indent)
			if (block == "sh" || goes_on || sub(/^[$#] /, "", line)) {
				print line
				goes_on = line ~ /\\$/
			}
		}
		wanted && step >= first && step <= last && ($1 == "```sh" || $1 == "```console") {
			block = substr($1, 4)
			indent = index($0, "`")
			goes_on = 0
		}
	' "${PAGE:-README.md}"
}

# follow SECTION [FIRST LAST]: run them, as if they were typed, after what REPLACED, a
# script of sed, replaces in them. In a shell that has the functions of this one.
follow() {
	commands "$@" | sed "${REPLACED:-}" >"$STATE/commands"
	[ -s "$STATE/commands" ] || die "${PAGE:-README.md} has no commands in its section $1"
	say "${PAGE:-README.md}, \"$1\"${2:+, steps $2-$3}"
	(
		set -ex
		# shellcheck source=/dev/null
		. "$STATE/commands"
	)
}
