#!/bin/bash
# daemon.sh run NAME CMD...   become the daemon NAME of the lab that this runs in
# daemon.sh alive NAME        whether it runs
# daemon.sh kill NAME SIGNAL
set -euo pipefail
action=$1 name=$2
shift 2
file=/run/lab/$name.pid

# A process is told by its number and its start time: numbers are used again.
identity() { echo "$1 $(cut -d' ' -f22 "/proc/$1/stat")"; }

recorded() { cut -d' ' -f1 "$file"; }

alive() { [ "$(identity "$(recorded)")" = "$(cat "$file")" ]; } 2>/dev/null

case $action in
run)
	identity $$ >"$file"
	exec "$@" >>"/run/lab/logs/$name.log" 2>&1 </dev/null
	;;
alive) alive ;;
kill) ! alive || kill -s "$1" "$(recorded)" ;;
esac
