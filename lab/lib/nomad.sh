# shellcheck shell=bash
# A Nomad server, and a client with the driver of this checkout. To stop and start
# Nomad means the client: the agent whose restart a task has to live through.

prepare_nomad() {
	local config
	mkdir -p "$LAB_RUN"/{bin,plugins,volume-plugins,nomad,virt/user-data,virt/static}
	cp "$LAB_DIR/volumes/loop-device" "$LAB_RUN/volume-plugins/"
	ln "$(nomad_piece)" "$LAB_RUN/bin/nomad" 2>/dev/null || cp "$(nomad_piece)" "$LAB_RUN/bin/nomad"
	for config in server.hcl agent.hcl; do
		sed "s|@NAME@|$LAB_NAME|g; s|@PLUGIN_DIR@|${PLUGIN_DIR:-/run/lab/plugins}|; s|@CEPH_KEY@|$(cat "$LAB_RUN/ceph/nomad.key")|" \
			"$LAB_DIR/$config" >"$LAB_RUN/$config"
	done
}

# detach_volumes: loop devices are the machine's, and outlive the lab's namespaces.
detach_volumes() {
	local file
	for file in "$LAB_RUN/nomad/volumes-of-$LAB_NAME"/*.img; do
		[ ! -e "$file" ] || losetup -n -O NAME -j "$file" | xargs -r losetup -d
	done
}

plugin_dir() { sed -n 's/^plugin_dir *= *"\(.*\)"/\1/p' "$LAB_RUN/agent.hcl"; }

# install_plugin takes the plugin as it was built last, unless the lab takes one
# that is installed. The one in use may be running: it is replaced, not written to.
install_plugin() {
	[ "$(plugin_dir)" = /run/lab/plugins ] || return 0
	local built=$LAB_ROOT/build/nomad-driver-virt plugins=/run/lab/plugins
	if [ ! -x "$built" ]; then
		say "$built is not there: Nomad runs without it"
		return
	fi
	inside cp "$built" "$plugins/.new"
	inside mv "$plugins/.new" "$plugins/nomad-driver-virt"
}

api() { inside curl -sf --max-time 2 "$@"; }

# The server can take a client's registration once it has a key to sign with.
server_ready() {
	api http://10.99.0.2:4656/.well-known/jwks.json | jq -e '.keys | length > 0'
}

# The agent has heard from its server since it started, so that the node's state
# is not that of an earlier agent.
node_ready() {
	api "$NOMAD_ADDR/v1/agent/self" | jq -e '.stats.client.heartbeat_ttl != "0s"' &&
		api "$NOMAD_ADDR/v1/nodes" | jq -e '.[0].Status == "ready"'
}

start_server() {
	start nomad-server nomad agent -config /run/lab/server.hcl
	if ! until_true 30 server_ready; then
		show_log "$LAB_LOGS/nomad-server.log"
		die "Nomad's server is not ready"
	fi
}

start_nomad() {
	! is_running nomad || return 0
	install_plugin
	start nomad nomad agent -config /run/lab/agent.hcl
	if ! until_true 40 node_ready; then
		show_log "$LAB_LOGS/nomad.log"
		die "Nomad's node is not ready"
	fi
	! inside test -e "$(plugin_dir)/nomad-driver-virt" || until_true 10 driver_healthy ||
		say "the driver is not healthy: $(driver .HealthDescription)"
}

# driver FILTER: what the node tells of the driver, by a filter of jq.
driver() { api "$NOMAD_ADDR/v1/nodes" | jq -er ".[0].Drivers.virt | $1"; }

driver_healthy() { driver .Healthy; }

# configure_nomad SCRIPT: change agent.hcl by a script of sed, and restart Nomad if
# it runs and that made a difference.
configure_nomad() {
	local config=$LAB_RUN/agent.hcl
	sed "$1" "$config" >"$config.new"
	if cmp -s "$config" "$config.new"; then
		rm "$config.new"
		return
	fi
	mv "$config.new" "$config"
	is_running nomad || return 0
	stop_nomad
	start_nomad
}

# stop_nomad leaves the tasks running, as a stop of Nomad's service does.
stop_nomad() { stop nomad 20; }
