
# The commands share one shell, like the lines of a script: what one sets, the next one sees. A command that ends the
# shell (exit, exec, set -e, a syntax error) does not end the rest: they go on in a new one, in the same directory and
# with the same exported variables.

virt_report() {
	if [ "$2" -ne 0 ]; then
		echo "nomad-driver-virt: cmds[$1] ended with status $2" >&2
	fi
}

# Takes the next command, and notes that for the shell that may come after this one.
virt_claim() {
	[ "$virt_next" -lt "$virt_count" ] || return
	virt_now=$virt_next
	virt_next=$((virt_next + 1))
	echo "$virt_next" >|"$virt_state/next"
}

# Keeps what the next shell starts with. After set -a our own count would be exported too, and an old one restored: it is
# unset, which a subshell may do.
virt_save() (
	unset virt_now virt_next
	virt_directory=$(pwd)
	export virt_directory
	export -p >|"$virt_state/shell"
)

virt_run() {
	. "$virt_state/shell"
	cd "$virt_directory" || cd /
	unset virt_directory
	trap virt_save EXIT
	virt_claimed=yes
	while [ -n "$virt_claimed" ] || virt_claim; do
		virt_claimed=
		virt_save
		virt_pick "$virt_now"
		eval "$virt_command"
		virt_report "$virt_now" $?
	done
}

rm -rf "$virt_state"
mkdir -m 0700 "$virt_state"
. "$virt_env"
virt_save
virt_next=0
while virt_claim; do
	(virt_run)
	virt_status=$?
	read -r virt_next <"$virt_state/next"
	virt_report $((virt_next - 1)) "$virt_status"
done
rm -rf "$virt_state"
