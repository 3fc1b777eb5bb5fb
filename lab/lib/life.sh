# shellcheck shell=bash
# The lab as a whole.

LAB_PARTS=(virtlogd libvirtd nomad-server nomad web)
LAB_EXTRAS=(ceph-mon ceph-osd firewalld) # not needed for a lab to be up

up() {
	! is_inside || die "this is inside the lab: run up outside"
	case $LIBVIRT in 9 | 11) ;; *) die "LIBVIRT=$LIBVIRT: the lab has libvirt 9 and 11" ;; esac
	require_pieces
	lock
	if is_healthy; then
		say "$LAB_NAME is up"
		return
	fi
	if is_there; then
		say "$LAB_NAME is half up, or not of today's recipes: ending it first"
		end
	fi
	local start=$SECONDS
	rm -rf "$LAB_LOGS"
	mkdir -p "$LAB_RUN" "$LAB_LOGS"
	pieces >"$LAB_RUN/pieces"
	make_networks
	make_holder
	write_libvirt_config
	prepare_ceph
	prepare_nomad
	start_web
	start_server
	start_libvirt
	define_network
	start_nomad
	say "$LAB_NAME is up after $((SECONDS - start)) s: $(versions)"
}

down() {
	! is_inside || die "this is inside the lab: run down outside"
	[ -d "$LAB_STATE" ] || return 0
	lock
	end
	say "$LAB_NAME is down"
}

# end needs nothing of the lab to be in order.
end() {
	end_namespaces
	detach_volumes
	remove_cgroups
	rm -rf --one-file-system "$LAB_RUN"
}

# lock keeps a second up or down of this lab waiting.
lock() {
	mkdir -p "$LAB_STATE"
	exec 9>"$LAB_STATE/$LAB_NAME.lock"
	flock 9
}

is_there() { [ -e "$LAB_RUN" ] || [ -e "/run/netns/$LAB_NAME" ] || [ -e "/run/netns/$LAB_FAR" ]; }

is_healthy() {
	local part
	holder >/dev/null || return
	pieces | cmp -s - "$LAB_RUN/pieces" || return
	for part in "${LAB_PARTS[@]}"; do
		is_running "$part" || return
	done
	virsh_answers >/dev/null && node_ready >/dev/null
}

status() {
	local part
	if ! is_inside && ! holder >/dev/null; then
		say "$LAB_NAME is down"
		return 1
	fi
	for part in "${LAB_PARTS[@]}" "${LAB_EXTRAS[@]}"; do
		printf '%-12s %s\n' "$part" "$(is_running "$part" && echo running || echo stopped)"
	done
	versions || true
	inside virsh -q list --all || true
	inside nomad node status || true
	inside nomad job status || true
}
